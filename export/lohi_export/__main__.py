from lohi_export.cli import main

main()

from lohi_edge.cli import main

main()

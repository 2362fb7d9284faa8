# What is in the software, and where it came from:
#   make lock    what each target installs, every file by its sha256 (deploy/locks, committed)
#   make sbom    the same as CycloneDX bills of materials (dist/sbom)
#   make audit   known vulnerabilities of what is locked; asks an advisory service on the network
#   make wheel   our own wheel; two builds of one commit are the same bytes

LOCKS := jetpack6-py3.10 jetpack7-py3.12 x86-64-py3.10 x86-64-py3.11 x86-64-py3.12
SUPPLY := .venv-wheelhouse/bin

.PHONY: lock sbom audit wheel

lock: .venv-wheelhouse/.installed
	mkdir -p deploy/locks
	for lock in $(LOCKS); do $(MAKE) --no-print-directory deploy/locks/$$lock.txt RELOCK=yes || exit; done
	echo 'hatchling>=1.27' | $(SUPPLY)/uv pip compile --quiet --no-header --universal \
		--generate-hashes --python-version 3.10 - -o deploy/locks/build.txt

# TARGET-pyVERSION.txt; uv resolves for the target's markers, and never for this machine's.
deploy/locks/%.txt: $(if $(RELOCK),pyproject.toml FORCE) | .venv-wheelhouse/.installed
	@target=$*; target=$${target%-py*}; \
	case $$target in jetpack*) machine=aarch64 ;; *) machine=x86_64 ;; esac; \
	case $$target in jetpack6) glibc=35 ;; jetpack7) glibc=39 ;; *) glibc=28 ;; esac; \
	$(SUPPLY)/uv pip compile --quiet --no-header --generate-hashes --only-binary :all: --upgrade \
		--python-platform $$machine-manylinux_2_$$glibc --python-version $(lastword $(subst -py, ,$*)) \
		pyproject.toml -o $@

.PHONY: FORCE
FORCE:

sbom: .venv-wheelhouse/.installed
	mkdir -p dist/sbom
	for lock in $(LOCKS); do \
		PATH="$(CURDIR)/$(SUPPLY):$$PATH" python3 deploy/sbom.py deploy/locks/$$lock.txt \
			dist/sbom/$$lock.cdx.json || exit; \
	done

audit: .venv-wheelhouse/.installed
	PATH="$(CURDIR)/$(SUPPLY):$$PATH" deploy/audit.sh $(LOCKS)

wheel: .venv-wheelhouse/.installed
	PATH="$(CURDIR)/$(SUPPLY):$$PATH" deploy/wheel.sh dist

# The two commands of the README: `make demo` and `make test`. Each does all the set-up it needs, inside this clone only.
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
# The apps of tests/apps have an environment of their own: what they use would be imported by every other test, too.
APPS  := .venv-apps/.installed
# For commands whose tests take as long as they are told to (pyproject.toml).
LONG  := -o faulthandler_timeout=0
READY := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# The first Python that is new enough and can make environments; `make PYTHON=/path/to/python3 …` takes another.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c '$(READY)' 2>/dev/null && { echo "$$python"; break; }; done)
endif

# Downloads are kept inside the clone, not in the home folder.
export PIP_CACHE_DIR := $(CURDIR)/.make/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# An environment knows its own path and its Python's: if it was moved, or its Python is gone, it is made anew.
ifneq ($(wildcard $(VENV)),)
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null || echo $(CURDIR)),$(CURDIR))
ANEW := --clear
endif
ifeq ($(shell $(BIN)/python -c '' 2>/dev/null && echo runs),)
ANEW := --clear
endif
endif

.PHONY: demo test apps test-quick test-live test-live-beside test-live-alone test-newest crash fuzz ledger soak docs lint sanitize dist pips screenshots bench lab lab-quick lab-coarse lock clean $(if $(ANEW),$(STAMP))

demo: $(STAMP)
	@$(BIN)/layerline demo

test: lint sanitize test-quick test-live

# What needs neither a Docker Engine nor a browser, nor ends servers by the dozen. In three processes: many tests wait for
# another process, and two would leave a fifth of two cores idle.
test-quick: $(STAMP)
	$(BIN)/pytest -n 3 -m "not docker and not browser and not crash and not hostile and not apps" $(TESTS)

# All of tests/apps: real apps on real servers, one after another (some minutes); writes docs/APPS.md.
apps: $(STAMP) $(APPS)
	$(BIN)/pytest -n 0 -p no:randomly --write-apps $(if $(TESTS),$(TESTS),tests/apps)

# What does. A part of TESTS may have tests of one kind only: then the other finds none (exit code 5 of pytest).
test-live: test-live-beside test-live-alone

# Servers that are killed and sent nonsense, pages in a browser: two at a time.
test-live-beside: $(STAMP)
	$(BIN)/pytest -n 2 -m "(docker or browser or crash or hostile) and not alone" $(TESTS) $(if $(TESTS),|| [ $$? -eq 5 ])

# One after another and with nothing beside it: injected milliseconds are compared with blamed ones.
test-live-alone: $(STAMP)
	$(BIN)/pytest -m alone $(TESTS) $(if $(TESTS),|| [ $$? -eq 5 ])

# Pictures of every page, light, dark and on a phone, of a shop that was made up, and those of README.md and docs/PAGE.md.
# make screenshots TO=FOLDER
screenshots: $(STAMP)
	$(BIN)/python tests/screenshots.py $(or $(TO),build/screenshots)

# The same as test-quick on the newest Python that can be had, in an environment of its own.
test-newest: $(STAMP)
	@newest=$$(.ci/newest-python $(BIN)/python) && $(MAKE) VENV=.venv-newest PYTHON="$$newest" test-quick

# A real server is ended at random moments, 100 times: nothing acknowledged may be lost (5 minutes).
# make crash CRASH='--kills 300 --seed 7', or CRASH='--memory 1g' for a server in a container of that size.
crash: $(STAMP)
	$(BIN)/pytest $(LONG) -m crash --kills 100 --seed new $(CRASH) tests/survival

# A real server is sent what nobody should send, for ten minutes, over HTTP and gRPC, and is asked about it; then what
# hypothesis draws, many times more of it (half an hour). make fuzz FUZZ='--minutes 60 --seed 7 --memory 1g'.
fuzz: $(STAMP)
	$(BIN)/pytest $(LONG) -m hostile --minutes 10 --seed new $(FUZZ) tests/survival
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest $(LONG) -n 2 -m hypothesis --timeout=3600 $(TESTS)

# The properties of the ledger and of what is shown of it, over 60,000 traces (20 minutes on two idle cores).
ledger: $(STAMP)
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest $(LONG) -n 2 --timeout=7200 tests/correlator/test_ledger_adds_up.py \
		tests/correlator/test_incident_figures.py tests/api/test_screens.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar --processes 2 correlator

# The C extension under gcc's address and undefined-behaviour sanitizers (half a minute; says so where there is no gcc).
sanitize: $(STAMP)
	$(BIN)/python tools/sanitize.py

# The documentation as a site in site/; a broken link or a warning fails (mkdocs.yml).
docs: $(STAMP)
	$(BIN)/python docs/make.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean
	@echo "site/index.html"

# Wheels and sdist in dist/, built, checked and installed as a user would have them (tools/dist.py).
dist:
	$(or $(PYTHON),python3) tools/dist.py

# The wheel in dist/ installed by pip 23.2 and by the newest, on each Python that is here, bare and with [all] (tools/pips.py).
pips:
	$(or $(PYTHON),python3) tools/pips.py

bench: $(STAMP)
	$(BIN)/python benchmarks/wrapper.py

# Half an hour of everything at once (as root): make soak SOAK='--minutes 6'.
soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py $(SOAK)

# The fault lab: at least 300 drawn cases, seed = the commit; writes docs/ACCURACY.md. --quick: one case per fault.
# A run that was cut off goes on: make lab LAB='--resume FOLDER'.
lab: $(STAMP)
	$(BIN)/python -m benchmarks.lab $(LAB)
	$(BIN)/python -m benchmarks.lab.coarse --write

# The lab's coarse part alone: the same seen through plain OpenTelemetry and readings every 15 or 60 s (20 minutes).
# A recording that was kept is judged again without running: make lab-coarse LAB='--again FOLDER'.
lab-coarse: $(STAMP)
	$(BIN)/python -m benchmarks.lab.coarse $(LAB)

lab-quick: $(STAMP)
	$(BIN)/python -m benchmarks.lab --quick $(LAB)

$(STAMP): pyproject.toml requirements.lock setup.py instrument/layerline/_fast.c
	@if ! "$(or $(PYTHON),false)" -c '$(READY)' 2>/dev/null; then \
		echo "Layerline needs Python 3.11 or newer that can make virtual environments (the modules venv and ensurepip)."; \
		for python in python3 python3.14 python3.13 python3.12 python3.11 $(PYTHON); do \
			command -v "$$python" >/dev/null || continue; \
			echo "  $$(command -v $$python) is $$("$$python" --version 2>&1)$$("$$python" -c 'import venv, ensurepip' 2>/dev/null || echo ', without venv or ensurepip')"; \
		done; \
		echo "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; \
		exit 1; \
	fi
	@echo "setting up $(VENV) with $(PYTHON) (once; a minute or two)"
	$(PYTHON) -m venv $(ANEW) $(VENV)
	$(BIN)/python -m pip install --progress-bar on -c requirements.lock -e '.[dev]'
	@echo "$(CURDIR)" > $@

$(APPS): $(STAMP) tests/apps/requirements.txt
	@echo "setting up .venv-apps (once; a minute or two)"
	$(BIN)/python -m venv --clear .venv-apps
	.venv-apps/bin/python -m pip install --quiet -c requirements.lock -e . -r tests/apps/requirements.txt
	.venv-apps/bin/python -m pip install --quiet --no-deps arq==0.28.0 # it asks for an older redis, and works with this one
	.venv-apps/bin/python -m pip install --quiet uwsgi==2.0.31 || echo "uWSGI could not be built: its tests are skipped"
	@touch $@

# Pins what development uses. Users get the ranges of pyproject.toml.
lock:
	rm -rf .make/lock && $(PYTHON) -m venv .make/lock
	.make/lock/bin/pip install -e '.[dev]'
	.make/lock/bin/pip freeze --exclude-editable > requirements.lock
	rm -rf .make/lock

clean:
	rm -rf .venv .venv-apps .venv-newest .make build dist site *.egg-info instrument/*.egg-info

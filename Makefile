# Every target sets up what it needs, in .venv and .venvs; a fresh clone needs Python >= 3.11, git and make.
# PYTHON=python3.12 chooses the interpreter.

.PHONY: help demo test test-quick coverage test-deployments test-fleet test-compat test-upstream check check-all docs bench bench-fleet picture public-api format lint layers types dev wheel clean
.NOTPARALLEL:

# with compiled tests, a run starts 14 CPU seconds sooner
unexport PYTHONDONTWRITEBYTECODE

DEV := .venv/bin/
WHEEL := .venvs/wheel/bin/
# more workers than cores: many tests wait for a timeout or a child process
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 3)))
# what `make test-quick` leaves out: browsers, child processes, libraries that take seconds to import, and long runs
SLOW := --ignore-glob='tests/integrations/test_[!osu]*' $(addprefix --ignore=tests/,process browser fleet cli \
	$(addprefix integrations/test_,ollama.py sessions.py stacks.py openai_background.py openai_exit.py openai_extras.py) \
	$(addprefix server/test_,busy_pages.py catalogue.py many.py markdown.py openapi.py store.py viewer.py) \
	$(addprefix server/model/test_,anthropic.py bedrock.py gemini.py) \
	$(addprefix delivery/test_,economy.py faults.py many_waiting.py odd_answers.py outbox_file.py rate_limits.py) \
	$(addprefix capture/test_,privacy.py shared_sessions.py) $(addprefix api/test_,bounds.py connection.py) \
	$(addprefix test_,asgi.py demo.py examples.py notebooks.py package.py settings.py testing.py viewer_picture.py web_app.py \
	web_frameworks.py) history/test_model_chat.py) -k 'not a_bug_of_ours'
PARALLEL = --forks $(WORKERS) --inline-snapshot=disable --ignore-glob='tests/test_docs*'
PROSE = src tests docs examples benchmarks scripts Makefile pyproject.toml $(wildcard *.md)
SOURCES := $(shell find src -type f -not -name '*.pyc') pyproject.toml README.md LICENSE

help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 16

demo: ## a chat of a real openai client turns up in a local Conversations API; KEEP=1 leaves the viewer up
	@scripts/venv .venvs/demo openai,server
	@.venvs/demo/bin/converra demo $(if $(KEEP),--stay)

check: format-check lint layers types test docs ## everything that must hold, in this order, up to the first failure

check-all: check test-deployments test-fleet test-compat test-upstream ## all that can be checked, in two hours or three: once a week, and before a release

test: wheel ## the tests, against the built wheel, on all cores; ARGS="tests/api -k retry" chooses, WORKERS=0 takes one process
	$(WHEEL)pytest $(PARALLEL) $(ARGS)

coverage: wheel ## as `make test`, with the branches measured that the tests take; too few of them fail
	$(WHEEL)coverage erase
	$(WHEEL)coverage run -m pytest $(PARALLEL) $(ARGS)
	$(WHEEL)coverage combine --quiet
	$(WHEEL)coverage report $(if $(ARGS),--fail-under=0)

test-quick: dev ## half of the tests in less than a minute: no browsers, few child processes, openai for all libraries
	$(DEV)pytest $(PARALLEL) --hypothesis-profile=quick $(SLOW) $(ARGS)

docs: dev wheel ## README, docs and examples: links, code, its types, settings and names are checked
	$(DEV)python -m scripts.doc_types
	$(WHEEL)pytest tests/test_docs*.py

bench: $(if $(PEERS),,wheel) ## what importing and capturing cost; PEERS=1 compares with other recorders of model calls
ifdef PEERS
	@scripts/venv .venvs/peers openai,langchain peers
	.venvs/peers/bin/python -m benchmarks.peers $(ARGS)
else
	$(WHEEL)python -m benchmarks
endif

bench-fleet: dev ## what a fleet costs: hand-over, the caller's thread, backlogs, an outage, a simulation of 1,000 hosts; N=1000000 takes the largest backlog
	@scripts/redis
	$(DEV)python -m benchmarks.fleet $(N)

test-compat: dev ## the integrations with old and new versions of the captured libraries, beside other instrumentations, and below frameworks; ROWS="openai-1.66" chooses
	$(DEV)python -m scripts.compat $(ROWS)

test-upstream: dev ## the own tests of the captured libraries, with capture: they must come out as without; ARGS=langgraph chooses
	$(DEV)python -m scripts.upstream $(ARGS)

test-deployments: ## the real servers and workers, told to stop: what they recorded arrives; ARGS="-m quick" chooses
	@scripts/redis
	@scripts/venv .venvs/deployments openai,server deployments
	.venvs/deployments/bin/pytest tests/deployments $(ARGS)

test-fleet: dev ## a fleet with a real Redis server: processes are killed fifty times
	@scripts/redis
	FLEET_KILLS=50 $(DEV)pytest -n 0 tests/fleet $(ARGS)

picture: dev ## docs/demo.svg and docs/viewer.png, from runs of the demo
	$(DEV)python -m scripts.demo_picture
	$(DEV)python -m scripts.viewer_picture

format: dev ## rewrite the code in the house's format
	$(DEV)ruff format
	$(DEV)ruff check --fix-only

format-check: dev
	$(DEV)ruff format --check

lint: dev
	$(DEV)ruff check
	$(DEV)codespell $(PROSE)
	@$(DEV)validate-pyproject pyproject.toml >/dev/null

layers: dev
	$(DEV)lint-imports --no-logo

types: dev wheel ## mypy and pyright, and how much of the public API they know the types of
	$(DEV)mypy
	$(DEV)pyright
	$(DEV)python -m scripts.verify_types .venvs/wheel

public-api: dev ## rewrite tests/public_api.txt, which a test compares with the public names and signatures
	$(DEV)python -m scripts.public_api

dev: ## .venv: the project, editable, with all tools
	@scripts/venv .venv all dev

wheel: .venvs/wheel/.installed

.venvs/wheel/.installed: $(SOURCES) scripts/venv
	@scripts/venv .venvs/wheel all test
	@rm -rf build/wheel
	@$(WHEEL)python -m pip wheel -qq --no-deps --no-build-isolation --wheel-dir build/wheel .
	@$(WHEEL)python -m pip install -qq --no-deps --force-reinstall build/wheel/*.whl
	@$(WHEEL)python -c 'import converra; assert "site-packages" in converra.__path__[0], converra.__path__'
	@touch $@

clean: ## remove everything that was made here
	rm -rf .venv .venvs .cache build dist

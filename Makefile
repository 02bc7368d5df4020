.DEFAULT_GOAL := help
.PHONY: help demo test soak properties faults certificates lint types lock deb lab clean

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## hold an encrypted meeting on this machine, with an eavesdropper in it (ARGS="--seconds 30")
	@.ci/setup demo
	@.venv/bin/dongled demo $(ARGS)

test: ## run the whole test suite (ARGS="-k name" for a part of it)
	@.ci/setup test
	@$(if $(ARGS),.venv/bin/pytest $(ARGS),.ci/test)

soak: ## hold a meeting for hours and see that nothing grows (DURATION=900 for a quarter of one)
	@.ci/setup test
	@DURATION=$(or $(DURATION),7200) .venv/bin/pytest -m soak tests/soak $(ARGS)

certificates: ## test certificates, revocation, time, authorisation and audit against openssl, cfssl and a public suite
	@.ci/setup test
	@.venv/bin/pytest tests/agent/policy tests/agent/enrolment tests/agent/audit tests/agent/test_ca.py tests/agent/test_ca_cli.py \
		tests/agent/test_ca_revocation.py tests/agent/test_malformed.py tests/agent/control/test_requests_command.py \
		tests/agent/protocol/test_real_policy.py tests/agent/doctor/test_terminal_checks.py tests/tokens/test_prepare.py \
		tests/integration/test_revocation.py tests/integration/test_authorizer.py tests/integration/test_attestation.py \
		tests/integration/test_fleet.py tests/integration/test_wall_clock.py $(ARGS)

properties: ## run the tests that attack what docs/protocol.md promises, and print a table
	@.ci/setup test
	@.venv/bin/pytest --properties -q $(ARGS)

faults: ## play what goes wrong with tokens, readers and their drivers, and print a table
	@.ci/setup test
	@.venv/bin/pytest --faults -q $(ARGS)

lint: ## check style, formatting and who imports whom
	@.ci/setup test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports

types: ## check types
	@.ci/setup test
	.venv/bin/mypy

lock: ## resolve the Python packages again and pin them by hash
	@.ci/setup test
	.ci/lock

deb: ## build Debian packages, into dist/ (SUITE=trixie, ARCH=arm64 for others than this machine's)
	@.ci/deb "$(SUITE)" "$(ARCH)"

lab: ## boot a device in a virtual machine, install the packages, play faults, print a table (SUITE=trixie)
	@.ci/setup lab
	@.ci/lab $(or $(SUITE),bookworm)
	@.venv/bin/pytest --lab=$(or $(SUITE),bookworm) -x tests/lab $(ARGS)

clean: ## remove what make has made here
	rm -rf .venv .chrony .janus .pcsc .lab build dist demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find agent tokens capture media config tests -name __pycache__ -type d -prune -exec rm -rf {} +

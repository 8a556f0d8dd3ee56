# Each target first brings what it needs (.ci/setup); a second call brings nothing.
python := .venv/bin/python

.PHONY: help demo test lab bench lint
# Two set-ups at once would fight over .venv.
.NOTPARALLEL:

help:
	@echo 'make demo  from a container image to two booted nodes, step by step'
	@echo 'make test  every test, a network boot in a virtual machine among them'
	@echo 'make lab   every network boot scenario of vm-lab/'
	@echo 'make bench how fast images are imported and built, against what they replace'
	@echo 'make lint  format, lint, types and house rules only'

demo:
	@.ci/setup demo
	$(python) vm-lab/demo.py

test:
	@.ci/setup test
	$(python) -m pytest

lab:
	@.ci/setup lab
	$(python) vm-lab/lab.py run

bench:
	@.ci/setup bench
	$(python) bench/run.py $(BENCH)

lint:
	@.ci/setup lint
	$(python) -m pytest tests/test_linters.py tests/test_layers.py

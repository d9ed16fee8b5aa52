# `make demo` and `make test` set up everything they need in .venv; `make help` lists the rest.
SHELL := /bin/bash
PY := .venv/bin/python
DEMO := exp/demo/
DEMO_SLURM := exp/demo_slurm/
PLAY := exp/play/
# Its daemons are slow to answer beside tests that compute, and a killed one then takes minutes to come back.
REAL_CLUSTER := tests/parallel/test_slurm_here.py

.PHONY: help setup demo demo-slurm play test lint format test-llm campaign bench bench-fire clean clean-demo

help:
	@echo "make demo        train 6 Craftax-Classic skills on the CPU, 2 at a time (2 to 8 minutes)"
	@echo "make demo-slurm  the same as jobs of a Slurm cluster of two nodes, which is started on this machine and ended again; one"
	@echo "                 job is cancelled and tried again (3 to 12 minutes)"
	@echo "make play        train all 22 Craftax-Classic skills, let them play whole episodes and learn from that, and print what"
	@echo "                 they unlock beside plain PPO agents (20 minutes or more; can be stopped and continued)"
	@echo "make test        run the tests (installs Chromium for them, where that needs no password)"
	@echo "make lint        check the code with ruff, as make test does first (make format: correct what can be corrected)"
	@echo "make test-llm    try the proposer on a small language model on this machine (opt-in)"
	@echo "make campaign    20,000 simulated histories of the scheduler and 130 real runs with faults, 30 of them as jobs of a Slurm"
	@echo "                 cluster that is started on this machine (two hours; can be"
	@echo "                 stopped and continued)"
	@echo "make bench       frames per second beside another trainer and with many experts (opt-in)"
	@echo "make bench-fire  fires per second beside pytorchfire (opt-in; downloads several GB)"
	@echo "make setup       make .venv, and install tmux, jq and watch where they are missing"
	@echo "make clean-demo  end the demo's trainings and delete its folder, so that the next demo starts from nothing"
	@echo "make clean       delete .venv, and what Python, pytest and make test left behind"

setup:
	@scripts/install_tools.sh tmux jq watch
	@scripts/make_venv.sh

# No network, no key; a second `make demo` continues where the first one stopped.
demo: setup
	@JAX_PLATFORMS=cpu scripts/offline.sh $(PY) -m flowrl.bottomup_parallel \
	  --env_name Craftax-Classic-Symbolic-v1 \
	  --graph_path $(DEMO) \
	  --proposer curriculum \
	  --max_nodes 6 \
	  --max_parallel_skills 2 \
	  --layer_size 128 \
	  --num_envs 256 \
	  --num_steps 32 \
	  --lr 1e-3 \
	  --gamma 0.995 \
	  --total_timesteps 1e6 \
	  --no-use_wandb

demo-slurm: setup
	@scripts/offline.sh scripts/demo_slurm.sh $(PY) $(DEMO_SLURM)

# 2.5 million frames for the library, and as many for each plain agent beside it.
play: setup
	@JAX_PLATFORMS=cpu scripts/offline.sh $(PY) benchmarks/vs_flat_ppo.py $(PLAY) --seeds 1 --frames 2.5e6

test: setup lint
	@scripts/prepare_tests.sh
	@scripts/offline.sh $(PY) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --ignore $(REAL_CLUSTER)
	@scripts/offline.sh $(PY) -m pytest -q $(REAL_CLUSTER)

lint: setup
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

format: setup
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

# Opt-in: a real model of 98 MB on this machine; needs the network and about ten minutes the first time.
test-llm: setup
	@scripts/offline.sh tests/llm_local/run.sh $(PY)

campaign: setup
	$(PY) benchmarks/campaign.py --histories 20000
	PYTHONPATH=. $(PY) benchmarks/faults.py --runs 100
	PYTHONPATH=. $(PY) benchmarks/faults.py --runs 30 --launcher slurm

# Opt-in: installs the peer into a separate environment.
bench: setup
	@benchmarks/run.sh $(PY)

bench-fire: setup
	@benchmarks/fires.sh $(PY)

clean-demo:
	@[ ! -x $(PY) ] || $(PY) scripts/end_trainings.py $(DEMO)
	rm -rf $(DEMO)
	rm -rf $(DEMO_SLURM)

clean:
	rm -rf .venv .venv-llm .venv-bench .venv-bench-fire .axe-core build dist *.egg-info .pytest_cache .hypothesis
	find flowrl tests -name __pycache__ -type d -prune -exec rm -rf {} +

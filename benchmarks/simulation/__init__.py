"""Overload, outages and slow machines in virtual time, survived by the real policies and controllers.

python -m benchmarks.simulation                          every scenario, seeds 1 to 5
python -m benchmarks.simulation --only s2 --seeds 1-2    one of them
python -m benchmarks.simulation --plots DIR              and pictures of what happened
python -m benchmarks.simulation --peers                  what others' laws do in them
"""

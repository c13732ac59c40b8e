"""Other ways to do the same training, timed beside the core's engines: JAX.

pip install jax
python -m benchmarks.peers
"""

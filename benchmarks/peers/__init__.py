"""Other ways to do the same training, timed beside the core: JAX, and a fused kernel in C++.

pip install jax
python -m benchmarks.peers
"""

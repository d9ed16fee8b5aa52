"""Craftax-Classic and Craftax: their facts, which are data, and their adapters, which import jax."""

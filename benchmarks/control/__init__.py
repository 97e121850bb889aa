"""Adaptive control on real parts: a server that cannot recover, and pools of workers."""

"""Objectives judged on what Opero measured. The room is here; what it holds comes with its own change."""

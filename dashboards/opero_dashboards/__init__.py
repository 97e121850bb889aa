"""Dashboards in code, for what Opero measures. The room is here; what it holds comes with its own change."""

"""What must hold on every driver and at both speeds: one function a scenario, told a world `w`; a module an idea."""

import importlib
import pkgutil

SCENARIOS = [
    value
    for module in pkgutil.iter_modules(__path__)
    for name, value in vars(importlib.import_module(f"{__name__}.{module.name}")).items()
    if not name.startswith("_") and getattr(value, "__code__", None) and value.__code__.co_varnames[:1] == ("w",)
]

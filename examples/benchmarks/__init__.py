"""The sections of `examples/benchmark.py`, a module each with `measure`; they share `suite` and `measuring`.

`suite` keeps what they found and writes it by `report` and `plots`.
"""

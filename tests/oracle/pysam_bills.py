"""Ask PySAM.Utilityrate5 (NREL's own calculator, PyPI NREL-PySAM) for the twelve monthly bills of each generated rate.

``python tests/oracle/pysam_bills.py --out tests/oracle/pysam_bills.json`` writes what the suite compares with;
``--check`` compares what is kept with a fresh answer. Needs NREL-PySAM (``tox -e oracle`` has it), nothing of Gridpost.
PySAM reads the rate by its own URDB converter, so the reading of URDB is compared as well as the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import sys
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from urdb_rates import load, rates

HUNDREDTH = 0.005


def main() -> int:
    """Write or check; 0 only when all is as it was."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path)
    options.add_argument("--check", type=Path)
    given = options.parse_args()
    found = bills()
    if given.out:
        given.out.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
    if given.check:
        kept = json.loads(given.check.read_text(encoding="utf-8"))
        apart = [
            (label, month)
            for label, months in found.items()
            for month, amount in enumerate(months, 1)
            if abs(float(kept[label][month - 1]) - float(amount)) > HUNDREDTH / 10
        ]
        print(f"{len(found)} rates, {len(apart)} monthly bills differ from {given.check}: {apart[:10]}")
        return 1 if apart or set(kept) != set(found) else 0
    return 0


def bills() -> dict[str, list[str]]:
    """Label -> twelve monthly bills, as text with six places."""
    return {rate["label"]: [f"{amount:.6f}" for amount in _bills(rate)] for rate in rates()}


def _bills(rate: dict) -> list[float]:
    from PySAM import Utilityrate5, UtilityRateTools

    model = Utilityrate5.new()
    model.Lifetime.assign({"analysis_period": 1, "inflation_rate": 0, "system_use_lifetime_output": 0})
    model.SystemOutput.assign({"gen": [0] * 8760, "degradation": [0]})
    model.Load.assign({"load": [float(kwh) for kwh in load()]})
    model.ElectricityRates.assign(UtilityRateTools.URDBv8_to_ElectricityRates(_floats(rate)))
    model.ElectricityRates.assign({"rate_escalation": [0], "ur_metering_option": 0})
    model.execute(0)
    return list(model.Outputs.utility_bill_wo_sys_ym[1])


def _floats(value: object) -> object:
    """PySAM computes in binary floating point; its converter also counts periods up in the lists it is given."""
    if isinstance(value, dict):
        return {key: _floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_floats(one) for one in value]
    return float(value) if isinstance(value, Decimal) else value


if __name__ == "__main__":
    sys.exit(main())

"""What holds for every test here."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples each time, however long one takes: a machine that stood still for 200 ms is no fault of the code's.
# ``--hypothesis-profile=default`` looks for other examples.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

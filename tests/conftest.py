"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadlines: the machines are shared, and a slow moment proves nothing.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

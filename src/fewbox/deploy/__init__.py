"""A detector taken elsewhere: today, served over HTTP."""

"""Suites of adaptations for `archprior bench`, and the datasets that they are run on."""

"""The paper's study: what the workflow runs, from the configuration to tables and figures."""

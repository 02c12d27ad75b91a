"""The specification of a workflow as data: written in Python or YAML, checked, stored in versions, compared."""

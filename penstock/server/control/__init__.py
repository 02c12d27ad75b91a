"""REST of workflows: definitions, runs, facts, dictionary, resources, components; events as they happen."""

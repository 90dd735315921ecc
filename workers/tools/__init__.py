"""Tools of an agent: MCP connections, their catalogue, and the toolbox a turn sees."""

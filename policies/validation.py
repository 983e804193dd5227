"""Validation before execution: outputs by their schema, tool calls by the tools that the request declares."""

from policies.jsonschema import Compiled, check_output, check_value, compile_schema
from policies.tools import BRINGING, Tools

__all__ = ["BRINGING", "Compiled", "Tools", "check_output", "check_value", "compile_schema"]

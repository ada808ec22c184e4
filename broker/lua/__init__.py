"""The broker's Lua scripts, one file each (package data)."""

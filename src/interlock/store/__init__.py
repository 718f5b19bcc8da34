"""Stores: the plane's commands as transactions, one package for each database."""

"""How runs are shown: tables and plots for a terminal, one HTML file for a browser.

Owns wording and layout. Computes nothing that the ledger or the phases decide, and changes nothing.
"""

"""Tables, pictures and spreadsheets, rebuilt from result files alone: no model, no measuring.

`build.build_report` writes everything; `summary.summarise` makes the one table that `alpine bench`
prints, too.
"""

from __future__ import annotations

"""Set the result files of a candidate against those of a baseline: `alpine compare A B`.

    expression    "throughput<-5%" → Condition
    match         which figure of A belongs to which of B, and what may not be compared
    judge         a pair → ratio or difference, interval, verdict; a condition → shown or not
    table         the changes as `report.tables.Table`

Reads result files only; nothing is measured here.
"""

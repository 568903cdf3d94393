"""`bench`, also the script `ollama-benchmark`: how fast the models of a server answer, and how right (cli §3.15, §13).

`tasks` says what is asked, `measure` asks and takes the time, `records` keeps it, `figures` makes numbers of it;
`view` shows it while it happens; `pages` and `compare` say what a report contains, `writers` in which files.
"""

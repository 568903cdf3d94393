"""`service`: the server in the hands of the platform's service manager (cli §3.16, §12.2; security §13).

`plan` has the words: what is wanted, and the steps that do it. `systemd`, `launchd` and `tasks` say which steps and
commands those are on their platform, as values; `perform` carries steps out or prints them; `command` decides.
"""

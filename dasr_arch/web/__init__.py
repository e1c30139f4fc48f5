"""`dasr serve`: the upscaler and a playground of degradations as a page and an HTTP API on this machine.

Starlette and uvicorn carry HTTP; they come with the extra `serve`, and nothing outside this folder imports them. The
page is plain HTML, CSS and JavaScript without a build step, and asks no other machine for anything.
"""

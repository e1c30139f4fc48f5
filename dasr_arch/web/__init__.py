"""`dasr serve`: the upscaler and a playground of degradations as a page and an HTTP API on this machine.

The packages of the extra `serve` (FastAPI, Starlette, uvicorn, python-multipart) are imported in this folder only. The
page is plain HTML, CSS and JavaScript without a build step and loads nothing from other machines.
"""

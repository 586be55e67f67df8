"""The API that shops program against, one file for each kind of thing; `POST /v1/events` is in `orderbell.sources`."""

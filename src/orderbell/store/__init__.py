"""The only room that knows PostgreSQL: the bundled server, migrations, named batch statements, the turn's transaction."""

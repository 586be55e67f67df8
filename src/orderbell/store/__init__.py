"""The only room that knows PostgreSQL: the bundled server, migrations, batch statements, the turn's transaction."""

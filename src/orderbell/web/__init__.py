"""What people and programs see of a running OrderBell: the site that carries its routes, pages and answers."""

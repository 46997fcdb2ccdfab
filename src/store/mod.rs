//! SQLite: schema, migrations, one writer, readers. It decides no policy.

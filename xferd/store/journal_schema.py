# -*- test-case-name: tests.store.test_journal -*-
"""
The tables of the journal's database, and how older versions become newer ones.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE daemon (run INTEGER NOT NULL);
    INSERT INTO daemon VALUES (0);
    CREATE TABLE job (
        id TEXT PRIMARY KEY,
        number INTEGER NOT NULL,
        created TEXT NOT NULL,
        state TEXT NOT NULL,
        run INTEGER NOT NULL,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX job_by_age ON job (created, number);
    CREATE INDEX job_by_state ON job (state, run);
    CREATE TABLE attempt (
        id INTEGER PRIMARY KEY,
        transfer TEXT NOT NULL,
        kind TEXT NOT NULL,
        digest TEXT,
        source TEXT,
        attempt INTEGER NOT NULL,
        started TEXT,
        finished TEXT,
        bytes_done INTEGER,
        code TEXT,
        error TEXT
    );
    """,
    """
    CREATE TABLE upload (
        host TEXT NOT NULL,
        path TEXT NOT NULL,
        digest TEXT NOT NULL,
        location TEXT NOT NULL,
        confirmed INTEGER NOT NULL,
        PRIMARY KEY (host, path, digest)
    ) WITHOUT ROWID;
    CREATE TABLE holder (
        number INTEGER PRIMARY KEY,
        host TEXT NOT NULL,
        path TEXT NOT NULL,
        digest TEXT NOT NULL,
        UNIQUE (digest, host, path)
    );
    """,
    """
    CREATE INDEX attempt_by_transfer ON attempt (transfer);
    """,
    """
    CREATE TABLE numbered_job (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        created TEXT NOT NULL,
        state TEXT NOT NULL,
        run INTEGER NOT NULL,
        record TEXT NOT NULL
    );
    INSERT INTO numbered_job (id, created, state, run, record)
    SELECT id, created, state, run, record FROM job ORDER BY created, number;
    DROP TABLE job;
    ALTER TABLE numbered_job RENAME TO job;
    CREATE INDEX job_by_age ON job (created, id);
    CREATE INDEX job_unfinished ON job (run) WHERE state IN ('queued', 'running');
    CREATE TABLE idempotency_key (
        number INTEGER PRIMARY KEY,
        client TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        job TEXT NOT NULL,
        created REAL NOT NULL,
        UNIQUE (client, key)
    );
    """,
    """
    CREATE TABLE image_use (name TEXT PRIMARY KEY, used REAL NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE upload ADD COLUMN used REAL NOT NULL DEFAULT 0;
    UPDATE upload SET used = strftime('%s', 'now');
    """,
    """
    ALTER TABLE upload ADD COLUMN isolated INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE catalog_manifest (
        number INTEGER PRIMARY KEY,
        host TEXT NOT NULL,
        path TEXT NOT NULL,
        digest TEXT NOT NULL,
        record TEXT NOT NULL,
        UNIQUE (host, path, digest)
    );
    CREATE TABLE catalog_tag (
        host TEXT NOT NULL,
        path TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        checked REAL NOT NULL,
        PRIMARY KEY (host, path, tag)
    ) WITHOUT ROWID;
    CREATE TABLE catalog_blob (
        host TEXT NOT NULL,
        path TEXT NOT NULL,
        digest TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (host, path, digest)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE host (
        number INTEGER PRIMARY KEY,
        host TEXT NOT NULL,
        account TEXT NOT NULL,
        used REAL NOT NULL,
        record TEXT NOT NULL,
        UNIQUE (host, account)
    );
    ALTER TABLE daemon ADD COLUMN salt BLOB;
    """,
    """
    CREATE TABLE incoming_upload (
        id TEXT PRIMARY KEY,
        host TEXT NOT NULL,
        path TEXT NOT NULL,
        client TEXT NOT NULL,
        algorithm TEXT NOT NULL,
        created REAL NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE snapshot (
        engine TEXT NOT NULL,
        number INTEGER NOT NULL,
        key TEXT NOT NULL,
        kind INTEGER NOT NULL,
        parent TEXT NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        labels TEXT NOT NULL,
        chain_id TEXT,
        size INTEGER,
        inodes INTEGER,
        PRIMARY KEY (engine, number),
        UNIQUE (engine, key)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE blob_origin (
        digest TEXT NOT NULL,
        origin TEXT NOT NULL,
        PRIMARY KEY (digest, origin)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE job ADD COLUMN request TEXT;
    ALTER TABLE job ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
    """,
    # They are in a database of their own.
    """
    DROP TABLE snapshot;
    """,
    """
    ALTER TABLE attempt ADD COLUMN bytes_moved INTEGER;
    """,
    """
    CREATE TABLE fill (
        number INTEGER PRIMARY KEY,
        host TEXT NOT NULL,
        path TEXT NOT NULL,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        begun INTEGER NOT NULL,
        UNIQUE (host, path, digest)
    );
    """,
    """
    CREATE TABLE delivery (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        hook TEXT NOT NULL,
        created REAL NOT NULL,
        attempts INTEGER NOT NULL,
        due REAL NOT NULL,
        body TEXT NOT NULL
    );
    """,
    """
    CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
)
"""The statements that migrate a database of version n to version n + 1."""

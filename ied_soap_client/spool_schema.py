"""The spool's tables: units and meanings, column by column.

Changed only by raising VERSION and upgrading in spool.py.
"""

VERSION = 3

_OFFICE_SIDE = (
    """CREATE TABLE control (
        mrid TEXT PRIMARY KEY,               -- the bus's id of it; each is judged once, whatever comes again
        counter INTEGER NOT NULL,            -- as sealed
        known INTEGER NOT NULL,              -- highest counter of this device's controls when it came
        content TEXT NOT NULL,               -- JSON of the Control as verified
        raw BLOB NOT NULL,                   -- the sealed answer: why this device did what it did
        taken_utc_ms INTEGER NOT NULL,
        accepted_utc_ms INTEGER,             -- when the bus was told that it waits to be acted on
        first_row INTEGER,                   -- of a billing reset: the readings that must be receipted before,
        last_row INTEGER,                    -- as ids in reading
        intent_utc_ms INTEGER,               -- synced before the act: from here on it is never tried again
        outcome TEXT CHECK (outcome IN ('refused', 'done', 'failed', 'unknown', 'expired')),  -- NULL: open
        outcome_utc_ms INTEGER,
        reason TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX control_open ON control (counter) WHERE outcome IS NULL",
    # The newest version of each value that was receipted, for as long as the settings say: for request-data.
    """CREATE TABLE kept (
        channel INTEGER NOT NULL REFERENCES channel,
        interval_s INTEGER NOT NULL,
        end_utc INTEGER NOT NULL,
        value TEXT,
        qualities TEXT NOT NULL,
        PRIMARY KEY (channel, interval_s, end_utc)
    ) WITHOUT ROWID""",
    "CREATE INDEX kept_end ON kept (end_utc)",
    """CREATE TABLE pulse (
        name TEXT PRIMARY KEY,               -- meter and channel of the input
        count INTEGER NOT NULL,              -- pulses since counting began
        file TEXT NOT NULL,                  -- which file they were read from: device and inode
        place INTEGER NOT NULL               -- octets of it that are counted
    ) WITHOUT ROWID""",
)

SCHEMA = (
    """CREATE TABLE channel (
        id INTEGER PRIMARY KEY,
        usage_point TEXT NOT NULL,   -- mRID
        meter TEXT NOT NULL,         -- mRID
        stream TEXT NOT NULL,        -- may be empty
        reading_type TEXT NOT NULL,  -- 18 numbers
        UNIQUE (usage_point, meter, stream, reading_type)
    )""",
    """CREATE TABLE stand (
        channel INTEGER PRIMARY KEY REFERENCES channel,
        end_utc INTEGER NOT NULL,  -- boundary at which the register was last read, UTC seconds
        raw INTEGER NOT NULL,      -- the register
        scale INTEGER NOT NULL,    -- times ten to this power
        flags TEXT NOT NULL,       -- JSON [[code, detail], ...] the next interval must carry
        used TEXT NOT NULL         -- JSON [[first, last], ...] interval ends spoken for, UTC seconds
    )""",
    # AUTOINCREMENT: an id tells before from after, also behind a clock that stepped, so none may come twice.
    """CREATE TABLE reading (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        channel INTEGER NOT NULL REFERENCES channel,
        interval_s INTEGER NOT NULL,  -- 0: a register reading
        end_utc INTEGER NOT NULL,     -- interval end, or the moment of a register reading, UTC seconds
        value TEXT,                   -- decimal literal in the reading type's unit; NULL is a gap
        qualities TEXT NOT NULL,      -- JSON [[code, detail], ...]
        measured INTEGER NOT NULL,    -- 1: by this device's clock; 0: from a file
        flagged INTEGER NOT NULL DEFAULT 0,  -- 1: a version of it marked 1.4.9 exists or is this one
        message TEXT,                 -- the message it is in; NULL: it waits, or was sent
        sent INTEGER NOT NULL DEFAULT 0      -- 1: receipted, kept until the clock is known to have been right
    )""",
    "CREATE INDEX reading_waiting ON reading (end_utc, id) WHERE message IS NULL AND NOT sent",
    "CREATE INDEX reading_message ON reading (message) WHERE message IS NOT NULL",
    """CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        content TEXT NOT NULL,  -- JSON of an EndDeviceEvent
        message TEXT            -- the message it is in; NULL: it waits
    )""",
    """CREATE TABLE message (
        id TEXT PRIMARY KEY,                 -- MessageID, UUIDv7
        sequence INTEGER NOT NULL UNIQUE,    -- per IED, rising
        noun TEXT NOT NULL,
        body BLOB NOT NULL,                  -- the Body's child as made; every attempt sends these bytes
        digest BLOB NOT NULL,                -- contentDigest, SHA-256 of body
        made_utc_ms INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'refused')),
        not_before_utc_ms INTEGER NOT NULL DEFAULT 0,  -- not sent again before
        attempts INTEGER NOT NULL DEFAULT 0,
        code TEXT NOT NULL DEFAULT '',       -- of the refusal
        reason TEXT NOT NULL DEFAULT '',
        items TEXT NOT NULL DEFAULT '[]'     -- of the refusal: JSON [[code, reason, path], ...]
    )""",
    """CREATE TABLE receipt (
        message_id TEXT PRIMARY KEY,
        partition INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        root BLOB NOT NULL,                  -- of the log before that entry
        recorded_at_utc_ms INTEGER NOT NULL, -- the bus's time
        raw BLOB NOT NULL                    -- the signed answer
    )""",
    "CREATE INDEX receipt_newest ON receipt (recorded_at_utc_ms)",
    """CREATE TABLE pin (
        sha256 BLOB PRIMARY KEY,
        certificate BLOB NOT NULL,           -- DER of a bus certificate once seen and trusted
        first_seen_utc_ms INTEGER NOT NULL
    )""",
    # sequence; proven_row: the last reading id up to which the clock is known right; clock_offset_ms: bus minus ours;
    # control_counter: highest of a control for this device
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    *_OFFICE_SIDE,
)

# Version -> what makes it of the one before.
UPGRADES = {
    2: ("ALTER TABLE message ADD COLUMN items TEXT NOT NULL DEFAULT '[]'",),
    3: _OFFICE_SIDE,
}

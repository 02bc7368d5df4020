/*
 * The token's broker: who is served first, what a hang, a crash and a wrong PIN do.
 *
 * Mirrors docs/tokens.md, The PIN, and When the module crashes or hangs:
 *   tokens/dongled/tokens/turns.py    Turns
 *   tokens/dongled/tokens/broker.py   _serve, _perform, _attempt, _ready
 *   tokens/dongled/tokens/ledger.py   MemoryLedger._attempt
 *   tokens/dongled/tokens/session.py  _log_in
 *   agent/dongled/agent/protocol/beacons.py  tick, failed (TOKEN_AGAIN)
 *
 * Time moves in half seconds: an operation takes one at most, and 5 s (the deadline) when it hangs.
 *
 * Abstracted:
 * - Three kinds of requests: my beacon (every 7 s), announcements, and derives: those of two peers, an honest one
 *   and one who asks as often as it can and always has QUOTA in the queue if it likes. The two take turns; with
 *   NO_QUOTA it is first come, first served among derives, and 63 may wait.
 * - A hang or a crash happens once between two beacons, and once while the honest peer's derive waits; more are
 *   a broken token, and the backoff's affair.
 * - A login is judged by the token or not before its worker dies: the broker cannot tell. A PIN's source is
 *   written anew at most VERSIONS times, with the right PIN or a wrong one.
 *   With CHANGED_ELSEWHERE the PIN is changed on the token behind the broker's back.
 * - One ledger: that of a file, which all processes share and which survives them.
 *
 * Bounds: QUOTA waiting derives of the greedy peer, VERSIONS PINs.
 */

#define BEACON 14    /* 7 s */
#define DEADLINE 10  /* 5 s */
#define AGAIN 2      /* 1 s */
#define SIGNED 22    /* 11 s: 18 s after its last beacon a peer may be taken for dead (liveness.pml), 7 are over */
#define SERVED 24    /* 12 s: a hang, and three operations */
#ifdef NO_QUOTA
#define QUOTA 63
#else
#define QUOTA 4
#endif
#define VERSIONS 2
#define HOLDS(name, condition) assert((condition) || name)

/* The invariants; never set: they are here so that spin names the one that broke. */
hidden byte beacons_never_starve;
hidden byte a_greedy_peer_starves_nobody;
hidden byte one_try_per_wrong_pin;

mtype = { nothing, beacon, announce, honest, greedy };
mtype = { untried, accepted, refused, unknown };

/* The queue. */
byte due = BEACON;        /* until the next beacon */
bit beacon_waits, announce_waits, honest_waits;
bit announced;            /* at most once between two beacons; a round takes 240 s */
byte again;               /* until a beacon that failed is tried again */
byte ahead_of_beacon;     /* what came before it: of use to FIRST_COME alone */
byte ahead_of_honest;     /* greedy derives that came before: of use to NO_QUOTA alone */
bit greedy_was_last;
byte greedies;

/* The worker. */
bit up;
mtype serving = nothing;
byte hangs;               /* until the deadline kills it; 0: it does not hang */
bit fault;                /* there was one */
bit repeat;               /* its worker died: asked once more */

/* The PIN. */
byte version;
bit right = 1;            /* is it the token's PIN? */
mtype verdict = untried;
byte tries;               /* of this version, judged by the token while wrong */
bit login_died;           /* a worker died over it, once before a login that succeeds */
bit stuck;                /* not tried again: every request is told so */

/* Ghosts. */
byte beacon_late, honest_late; /* half seconds since they were due */

inline died() {
	up = 0;
	hangs = 0
}

/* Broker._ready: a new worker, which logs in. */
inline log_in() {
	if
#ifndef NO_LEDGER
	:: verdict == refused || verdict == unknown -> stuck = 1
	:: verdict == untried || verdict == accepted ->
#else
	:: true ->
#endif
		if
		:: !right ->
			tries++;
			HOLDS(one_try_per_wrong_pin, tries <= 1);
			verdict = refused;
			stuck = 1
		:: right ->
			verdict = accepted;
			login_died = 0;
			up = 1
		/* The worker dies over it, before the token has judged, or after. */
		:: !login_died -> login_died = 1; in_doubt()
		:: !login_died && !right ->
			login_died = 1;
			tries++;
			HOLDS(one_try_per_wrong_pin, tries <= 1);
			in_doubt()
		fi
	fi
}

inline in_doubt() {
#ifndef A_CRASH_IS_NO_VERDICT
	if
	:: verdict != accepted -> verdict = unknown
	:: else
	fi
#else
	skip
#endif
}

inline take(what) {
	serving = what;
	repeat = 0
}

inline next() {
	if
#ifdef FIRST_COME
	:: beacon_waits && !ahead_of_beacon -> beacon_waits = 0; take(beacon)
	:: (!beacon_waits || ahead_of_beacon) && announce_waits -> announce_waits = 0; take(announce)
	:: (!beacon_waits || ahead_of_beacon) && !announce_waits ->
#else
	:: beacon_waits -> beacon_waits = 0; take(beacon)
	:: !beacon_waits && announce_waits -> announce_waits = 0; take(announce)
	:: !beacon_waits && !announce_waits ->
#endif
		if
		:: ahead_of_beacon -> ahead_of_beacon--
		:: else
		fi;
		if
#ifdef NO_QUOTA
		:: honest_waits && !ahead_of_honest -> honest_waits = 0; take(honest)
#else
		:: honest_waits && (greedy_was_last || !greedies) ->
			honest_waits = 0; ahead_of_honest = 0; greedy_was_last = 0; take(honest)
#endif
		:: else ->
			greedies--;
			greedy_was_last = 1;
			if
			:: ahead_of_honest -> ahead_of_honest--
			:: else
			fi;
			take(greedy)
		fi
	fi
}

inline answered() {
	if
	:: serving == beacon -> beacon_late = 0; announced = 0; fault = fault && honest_waits
	:: serving == honest -> honest_late = 0
	:: else
	fi;
	serving = nothing
}

/* DeadlinePassed: who asked is told; a beacon comes again. */
inline failed() {
	if
	:: serving == beacon -> again = AGAIN
	:: serving == honest -> honest_late = 0
	:: else
	fi;
	serving = nothing
}

inline half_second() {
	if
	:: due -> due--
	:: else ->
		due = BEACON - 1;
		/* While one is being signed, no second one. */
		if
		:: !beacon_waits && serving != beacon && !again ->
			beacon_waits = 1;
			ahead_of_beacon = greedies + honest_waits
		:: else
		fi
	fi;
	if
	:: again ->
		again--;
		if
		:: again == 0 -> beacon_waits = 1; ahead_of_beacon = greedies + honest_waits
		:: else
		fi
	:: else
	fi;
	if
	:: beacon_waits || again || serving == beacon -> beacon_late++
	:: else
	fi;
	if
	:: honest_waits || serving == honest -> honest_late++
	:: else
	fi;
	HOLDS(beacons_never_starve, beacon_late <= SIGNED);
	HOLDS(a_greedy_peer_starves_nobody, honest_late <= SERVED)
}

#define WAITING (beacon_waits || announce_waits || honest_waits || greedies)

active proctype broker() {
	do
	/* Somebody asks. */
	:: d_step { !stuck && !announced -> announced = 1; announce_waits = 1 }
	:: d_step { !stuck && !honest_waits && serving != honest -> honest_waits = 1; ahead_of_honest = greedies }
	:: d_step { !stuck && greedies < QUOTA -> greedies = QUOTA }
	/* The server. */
	:: atomic { !stuck && serving == nothing && WAITING -> d_step { next() } }
	:: atomic { !stuck && serving != nothing && !up -> log_in();
		if
		:: stuck || up
		/* The opening failed: who asked is told, a repeatable request is asked once more. */
		:: !stuck && !up && !repeat -> repeat = 1
		:: !stuck && !up && repeat -> failed()
		fi;
		half_second()
	}
	:: atomic { !stuck && serving != nothing && up && !hangs ->
		if
		:: answered()
		:: !fault -> fault = 1; hangs = DEADLINE
		:: !fault -> fault = 1; died(); if :: repeat -> failed() :: else -> repeat = 1 fi
		fi;
		half_second()
	}
	:: d_step { !stuck && hangs ->
		hangs--;
		if
		:: !hangs -> died(); failed()
		:: else
		fi;
		half_second()
	}
	:: atomic { !stuck && serving == nothing && !WAITING -> half_second() }
	/* The PIN's source is written anew, and the daemon asked again. */
	:: d_step { version < VERSIONS && stuck ->
		version++; tries = 0; verdict = untried; stuck = 0; login_died = 0; right = 0;
		beacon_late = 0; honest_late = 0; fault = 0; announced = 0 }
	:: d_step { version < VERSIONS && stuck ->
		version++; tries = 0; verdict = untried; stuck = 0; login_died = 0; right = 1;
		beacon_late = 0; honest_late = 0; fault = 0; announced = 0 }
	:: stuck && version == VERSIONS -> break
#ifdef CHANGED_ELSEWHERE
	:: d_step { right -> right = 0 }
#else
	:: d_step { right && verdict == untried -> right = 0 }
#endif
	od
}

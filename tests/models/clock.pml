/*
 * The time that certificates are judged by: who vouches for it, two floors, a day back, a year ahead.
 *
 * Mirrors docs/certificates.md, Time:
 *   agent/dongled/agent/policy/clock.py  TrustedClock.now, vouch, floor
 *   agent/dongled/agent/policy/floor.py  FloorFile, keep_floor
 *
 * The code believes less: a clock that was set since somebody vouched for it is believed no longer.
 *
 * Abstracted:
 * - Time is a small number. Only its order matters: STEP (what a time daemon corrects) < DAY < YEAR.
 * - Being vouched for (RTC, NTS, operator) is one event: the clock is right then, and believed until the next
 *   start. With SYSTEM_CLOCK the source is "system": believed always, however wrong.
 * - Whoever may set the clock sets it a day back or a year ahead at any moment; it restarts at 0, or keeps its time.
 * - Evidence (a verified OCSP producedAt, a CRL thisUpdate) is fresh, is stored when it comes, and is never of the
 *   future. The seconds that the floor goes by are stored now and then: a restart may lose them.
 * - One certificate, valid from FROM to UNTIL.
 *
 * Bounds: HORIZON steps of time, JUMPS settings of the clock, any number of restarts.
 */

#define BUILD 2
#define STEP 1
#define DAY 3
#define YEAR 8
#define FROM 3
#define UNTIL 7
#define HORIZON 14
#define JUMPS 3
#define HOLDS(name, condition) assert((condition) || name)

/* The invariants; never set: they are here so that spin names the one that broke. */
hidden byte no_grant_while_untrusted;
hidden byte no_grant_below_the_floor;
hidden byte what_has_expired_stays_expired;
hidden byte a_wrong_clock_closes_nothing_for_good;

byte now = BUILD;     /* the true time */
byte wall;            /* the device's clock */
bit trusted;
byte told;            /* _told: until the next start */
byte floor = BUILD;   /* _passed, and the seconds since */
byte stored = BUILD;  /* floor.json */
byte jumps;

/* Ghosts: what only the invariants look at. */
bit vouched;          /* somebody vouched since the start */
byte evident = BUILD; /* what evidence has shown to be past, ever */
byte believed;        /* the latest time told since the start */

inline at_least(x, value) {
	if
	:: x < value -> x = value
	:: else
	fi
}

inline start(at) {
	wall = at;
	told = BUILD;
	believed = 0;
#ifdef FLOOR_FORGOTTEN
	floor = BUILD;
#else
	floor = stored;
#endif
#ifdef SYSTEM_CLOCK
	trusted = 1;
	vouched = 1
#else
	trusted = 0;
	vouched = 0
#endif
}

#ifdef NO_FLOOR
#define BELOW 0
#else
#define BELOW (wall < told || wall + STEP < floor)
#endif

#ifdef UNTRUSTED_IS_BELIEVED
#define UNTRUSTED 0
#else
#ifdef FLOOR_MAKES_TRUSTED
#define UNTRUSTED (!trusted && wall < floor)
#else
#define UNTRUSTED (!trusted)
#endif
#endif

#ifdef EXPIRY_IGNORED
#define EXPIRED 0
#else
#define EXPIRED (wall > UNTIL)
#endif

/* TrustedClock.now, and what the policy does with it. */
inline judge() {
	if
	:: UNTRUSTED || BELOW
	:: else ->
		at_least(believed, wall);
		if
		:: wall > STEP ->
#ifdef TOLD_TIME_IS_FORGOTTEN
			skip
#else
			at_least(told, wall - STEP)
#endif
#ifdef TOLD_TIME_IS_KEPT
			;
			at_least(floor, wall - STEP)
#endif
		:: else
		fi;
		if
		:: wall >= FROM && !EXPIRED ->
			HOLDS(no_grant_while_untrusted, vouched);
			HOLDS(no_grant_below_the_floor, wall + STEP >= evident);
			HOLDS(what_has_expired_stays_expired,
				believed <= UNTIL + STEP && evident <= UNTIL + STEP)
		:: else
		fi
	fi
}

active proctype device() {
	d_step { start(0) }
	do
	:: d_step { now < HORIZON && wall < HORIZON + YEAR -> now++; wall++; floor++ }
	:: d_step { start(0) }
	:: d_step { start(wall) }
	:: d_step { at_least(stored, floor) }
#ifndef SYSTEM_CLOCK
	:: d_step { wall = now; trusted = 1; vouched = 1 }
#endif
	:: d_step { jumps < JUMPS && wall >= DAY -> jumps++; wall = wall - DAY }
	:: d_step { jumps < JUMPS && wall < HORIZON -> jumps++; wall = wall + YEAR }
	:: d_step {
		at_least(evident, now);
#ifndef EVIDENCE_IGNORED
		at_least(floor, now);
		at_least(stored, now)
#endif
	}
#ifdef UNTRUSTED_TIME_RAISES_THE_FLOOR
	:: d_step { !trusted -> at_least(floor, wall) }
#endif
	:: d_step { judge() }
	/* Once the clock is right and the daemon restarted, it is believed. */
	:: d_step { HOLDS(a_wrong_clock_closes_nothing_for_good, stored <= now && floor <= now) }
	od
}

/*
 * Who is there, and for how long: beacons under delay, and a token that is pulled.
 *
 * Mirrors docs/protocol.md, Liveness:
 *   agent/dongled/agent/protocol/liveness.py       Nonces.issued_at
 *   agent/dongled/agent/protocol/beacons.py        heard, _send
 *   agent/dongled/agent/protocol/remote.py         prove_by_beacon, prove_by_message, live
 *   agent/dongled/agent/protocol/state.py          first_sight
 *   agent/dongled/agent/protocol/member.py         _gone_at, _remove
 *   agent/dongled/agent/protocol/publisher.py      removed, _rotate, _switch
 *
 * A publisher watches one peer. Time moves in steps of a second, and everything is an age, counted from now: the
 * model has no beginning that time moves away from, and no end.
 *
 * Abstracted:
 * - The publisher issues nonces at every moment, the peer signs at every moment, over every nonce. What was signed
 *   arrives at any time, in any order, any number of times, or never. So all that counts is the newest
 *   nonce that was ever signed over; the bus may show any older one. This allows more than is possible.
 *   Counters, which only refuse more, are left out.
 * - BATCH and SWITCH (0.75 s together) are the one second between the peer's removal and its blindness.
 * - The peer drops its session's secrets when its token is pulled (P13). With HOSTILE it does not: it goes on
 *   signing with the epoch key that is in its memory, and has its announcement repeated.
 * - With DELAY=d the bus loses nothing (with LOSS: of the peer no two beacons in a row, with LOSS_BOTH_WAYS of either) and delays by d seconds
 *   at most, signing included. Both keep to their beacons' 7 s; jitter is left out.
 *
 * Bounds: none but the ages, which stop counting where nothing depends on them any more.
 */

#define LIVE 25
#define BEACON 7
#define GONE 27
#define NEVER 31
#define HOLDS(name, condition) assert((condition) || name)

/* The invariants; never set: they are here so that spin names the one that broke. */
hidden byte a_stale_peer_is_gone_within_27_s;
hidden byte a_healthy_peer_stays;

byte left;      /* live_until - now; 0: not live */

#ifndef DELAY

bit known;      /* it is in the roster */
bit proven;     /* live_until is set */
bit holds;      /* it holds the key that is sealed with */
bit removed;    /* the rotation is under way */
bit seen;       /* it was in the roster before */
byte age;       /* now - first_seen, at most LIVE + 1 */
byte admitted;  /* now - admitted_at, at most LIVE */
byte beacon;    /* age of the newest nonce echoed in a beacon, signed by the token */
byte message;   /* the same in a request, signed by the epoch key */
bit pulled;
byte since;     /* seconds since the token was pulled, at most GONE */

inline older(x, most) {
	if
	:: x < most -> x++
	:: else
	fi
}

inline raise(to) {
	if
	:: left < to -> left = to
	:: else
	fi;
	proven = 1
}

inline gone() {
	known = 0;
	admitted = 0;
	left = 0;
	proven = 0;
#ifndef NO_ROTATION_FOR_THE_SILENT
	removed = holds
#endif
}

inline second() {
	if
	:: removed ->
		removed = 0;
		holds = 0
	:: else
	fi;
	older(age, LIVE + 1);
	older(admitted, LIVE);
	if
	:: left -> left--
	:: else
	fi;
	if
	:: pulled ->
		older(since, GONE);
		older(beacon, LIVE)
#ifndef HOSTILE
		;
		older(message, LIVE)
#endif
	:: else
	fi;
#ifndef NOBODY_IS_REMOVED
	if
	:: known && ((proven && left == 0) || (!proven && admitted >= LIVE)) -> gone()
	:: else
	fi;
#endif
	HOLDS(a_stale_peer_is_gone_within_27_s, since < GONE || !(left || holds))
}

active proctype publisher() {
	byte echo;
	do
	:: d_step { second(); echo = 0 }
	:: d_step { !pulled && seen -> pulled = 1 }
	/* Its announcement arrives, once more perhaps. */
	:: d_step { !known ->
		known = 1;
#ifdef FIRST_SEEN_AGAIN
		age = 0;
#else
		if
		:: !seen -> age = 0
		:: else
		fi;
#endif
		admitted = 0;
		seen = 1
	}
	/* A beacon arrives, over a nonce that is `echo` seconds old. */
	:: atomic {
		known && beacon < LIVE -> select(echo : beacon .. LIVE - 1);
		d_step {
#ifdef LIFE_COUNTS_FROM_ARRIVAL
			raise(LIVE);
#else
			raise(LIVE - echo);
#endif
			echo = 0
		}
	}
	/* A request arrives: that counts in its first 25 s alone. A live peer that asks gets the key. */
	:: atomic {
		known && message < LIVE -> select(echo : message .. LIVE - 1);
		d_step {
			if
#ifdef MESSAGES_PROVE_LIFE_ANEW
			:: age <= LIVE -> raise(LIVE - echo)
#else
			:: age < LIVE && LIVE - age < LIVE - echo -> raise(LIVE - age)
			:: age < LIVE && LIVE - age >= LIVE - echo -> raise(LIVE - echo)
#endif
			:: else
			fi;
			if
			:: left -> holds = 1
			:: else
			fi;
			echo = 0
		}
	}
	od
}

#else

/* Both sides keep their timers, the bus its word: a nonce on its way, a beacon on its way. */
byte mine, its;                     /* seconds to the next beacon of either */
byte nonce = NEVER;                 /* the newest that the peer has: its age */
byte nonce_coming = NEVER;
byte echo_coming = NEVER, flight;   /* the nonce echoed by the beacon that is on its way; seconds so far */
bit lost_mine, lost_its;            /* the latest beacon was lost */
bit began;

inline nonce_arrives() {
	nonce = nonce_coming;
	nonce_coming = NEVER
}

inline beacon_arrives() {
	if
	:: echo_coming < LIVE && left < LIVE - echo_coming -> left = LIVE - echo_coming; began = 1
	:: else
	fi;
	echo_coming = NEVER;
	flight = 0
}

active proctype clockwork() {
	/* They may have started at any time. */
	select(mine : 0 .. BEACON - 1);
	do
	:: d_step { nonce_coming < NEVER -> nonce_arrives() }
	:: d_step { echo_coming < NEVER -> beacon_arrives() }
	:: atomic { mine == 0 && nonce_coming == NEVER ->
		mine = BEACON;
		if
		:: nonce_coming = 0; lost_mine = 0
#ifdef LOSS_BOTH_WAYS
		:: !lost_mine -> lost_mine = 1
#endif
		fi
	}
	:: atomic { its == 0 && echo_coming == NEVER ->
		its = BEACON;
		if
		:: nonce < LIVE -> echo_coming = nonce; lost_its = 0
		:: nonce >= LIVE
#if defined(LOSS) || defined(LOSS_BOTH_WAYS)
		:: !lost_its -> lost_its = 1
#endif
		fi
	}
	/* A second passes: what is due has gone, what has travelled long enough has arrived. */
	:: d_step { mine && its && (nonce_coming == NEVER || nonce_coming < DELAY) &&
		(echo_coming == NEVER || flight < DELAY) ->
		mine--;
		its--;
		if :: nonce < NEVER -> nonce++ :: else fi;
		if :: nonce_coming < NEVER -> nonce_coming++ :: else fi;
		if :: echo_coming < NEVER -> echo_coming++; flight++ :: else fi;
		if :: left -> left-- :: else fi;
		HOLDS(a_healthy_peer_stays, !began || left)
	}
	od
}

#endif

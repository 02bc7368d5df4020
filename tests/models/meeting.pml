/*
 * A publisher and three receivers on a bus that loses, repeats, reorders and replays, with terminals that
 * join, leave, are expelled, fall silent, restart, and with rounds.
 *
 * Mirrors docs/protocol.md, Publishing, Subscribing, Rounds and Links:
 *   agent/dongled/agent/protocol/publisher.py   request, _rotate, _grant, _rekey, _switch, removed, renew
 *   agent/dongled/agent/protocol/subscriber.py  _maybe_ask, _ask_again, grant, rekey, _left_out
 *
 * The code has no expulsion yet: there the model is ahead of it.
 *
 * Abstracted:
 * - The bus is the set of what was ever sent: anything in it arrives at any time, any number of times, or never.
 *   So a message is a fact ("grants[i].to[n] is request n's generation"), and nothing is ever taken back.
 * - One stream, so that generation, KID and key_seq are one number. A key is its generation; numbers go on
 *   over a publisher's restart, because the keys are fresh.
 * - Cryptography holds: a grant is of use to its request's maker, a rekey to whoever has the link that it names.
 *   A link is the request whose grant made it; its position follows from the generation (one step a rekey).
 * - Time is order alone. A switch comes before the next rotation (SWITCH < BATCH). Who is live is decided
 *   by the bus's whim ("silent"); liveness.pml has the clock.
 * - The token's derive is one step with the grant's arrival.
 * - Who is expelled does not notice: it goes on asking and keeps every key it ever had.
 *
 * Bounds: TURNS events of leave, expulsion, silence, restart (of a receiver, of the publisher) and round
 * in all; ASKS requests in all before the calm; of rekeys, the newest two still arrive. Receivers are alike, so
 * the first requests come in the receivers' order.
 */

#ifndef TURNS
#define TURNS 2
#endif
#ifndef ASKS
#define ASKS 3
#endif
#define N 3
/* What is older than the newest few was cleared: its place is used again. */
#define WINDOW 4
#define GRANT(i, n) grants[i].to[(n) & (WINDOW - 1)]
#define REKEY(s, i) rekeys[(s) & (WINDOW - 1)].link[i]
#ifdef OLD_LINKS_SURVIVE_A_ROUND
#define DROPPED holder[k]
#else
#define DROPPED 0
#endif
#define HOLDS(name, condition) assert((condition) || name)

/* The invariants; never set: they are here so that spin names the one that broke. */
hidden byte no_seal_after_a_switch_under_an_expelled_holders_key;
hidden byte newcomers_hold_no_earlier_generation;
hidden byte each_key_and_counter_once;
hidden byte keys_installed_only_for_outstanding_nonces;
hidden byte old_links_carry_nothing_after_a_round;
hidden byte keys_converge_under_fair_delivery;

/* The bus. */
typedef Grants { byte to[WINDOW] };      /* by request: the generation granted, 0 for none */
typedef Rekey { byte link[N] };
Grants grants[N];
Rekey rekeys[WINDOW];

/* The publisher. */
byte seq = 2;          /* the newest generation; 2, so that there are two before it */
byte sealing = 2;      /* the generation in use */
bit rotate, switching; /* _rotate_at, _switch_at are set */
byte holder[N];        /* the request of its link; 0: holds nothing */
byte asking[N];
byte seen[N];          /* remote.requests: the highest number taken */
bit newer[N];          /* its session after the restart is the known one */
bit expelled[N], gone[N];
bit round;             /* announced, its 60 s not yet over */
byte renewed[N];       /* requests up to this number are of the epoch before */

/* The receivers. */
byte asked[N];         /* the outstanding request, 0 for none */
byte made[N];          /* requests made */
byte first[N];         /* the first request of the session after its restart */
byte link[N];
byte held_seq[N];      /* the newest generation held, 0 for none */

/* Ghosts: what only the invariants look at. */
bit has_sealing[N], has_seq[N]; /* has this terminal, in any session, had the key of that generation? */
byte frontier[N];      /* the newest generation when it was expelled, or left */
byte since[N];         /* the first generation after its session was let in; 1 once it holds one, 0 before */
int used;              /* generations under which counter 0 was sealed */
byte base;             /* the publisher's first generation after its restart */
byte turns, asks;
bit over;

/* --- the publisher */

inline remove(i) {
	asking[i] = 0;
	if
	:: holder[i] ->
		holder[i] = 0;
#ifndef NO_ROTATION_FOR_LEAVERS
		rotate = 1
#endif
	:: else
	fi
}

inline put_out(i) {
	frontier[i] = seq;
#ifdef EXPELLED_STAY_HOLDERS
	rotate = 1
#else
	remove(i)
#endif
}

/* Publisher.request: n is above seen[i]. */
inline hear(i, n) {
	seen[i] = n;
	if
	:: gone[i] /* session-ended */
#ifndef EXPULSION_FORGOTTEN
	:: !gone[i] && expelled[i]
#endif
	:: newer[i] && n < first[i] /* superseded */
	:: else ->
		if
		:: first[i] && n >= first[i] && !newer[i] ->
			newer[i] = 1;
			remove(i);
			since[i] = 0
		:: else
		fi;
		if
		:: since[i] == 0 -> since[i] = seq + 1
		:: else
		fi;
		if
		:: holder[i] ->
			holder[i] = n;
			GRANT(i, n) = seq
		:: else ->
#ifdef NEWCOMERS_JOIN_THE_GENERATION
			holder[i] = n;
			GRANT(i, n) = seq
#else
			asking[i] = n;
			rotate = 1
#endif
		fi
	fi
}

/* The media seals from counter 0 on, and then at any moment. */
inline from_zero() {
	HOLDS(each_key_and_counter_once, !(used & (1 << sealing)));
	used = used | (1 << sealing)
}

inline switch() {
	switching = 0;
	sealing = seq;
	for (k : 0 .. N - 1) {
		has_sealing[k] = has_seq[k]
	}
	from_zero()
}

inline rotation() {
	rotate = 0;
	seq++;
	switching = 1;
	for (k : 0 .. N - 1) {
		has_seq[k] = 0;
		REKEY(seq - 2, k) = 0;
		REKEY(seq, k) = holder[k];
		if
		:: asking[k] ->
			holder[k] = asking[k];
			GRANT(k, asking[k]) = seq;
			asking[k] = 0
		:: else
		fi
	}
}

/* 60 s after the announcement: who has not asked again is dropped, the rest go on over their new links. */
inline cut() {
	round = 0;
	for (k : 0 .. N - 1) {
		if
		:: holder[k] && holder[k] <= renewed[k] -> holder[k] = DROPPED
		:: else
		fi
	}
	rotation();
	for (k : 0 .. N - 1) {
		HOLDS(old_links_carry_nothing_after_a_round,
			!REKEY(seq, k) || REKEY(seq, k) > renewed[k])
	}
}

/* Whoever was put out has nothing that is sealed with after the switch that is due. */
inline judge() {
	for (k : 0 .. N - 1) {
		HOLDS(no_seal_after_a_switch_under_an_expelled_holders_key,
			!(expelled[k] || gone[k]) || rotate ||
			(!has_seq[k] && (!has_sealing[k] || switching)))
	}
	k = 0
}

/* --- a receiver */

inline install(i, generation) {
	HOLDS(newcomers_hold_no_earlier_generation, generation >= since[i] || generation < base);
	if
	:: since[i] && generation >= since[i] -> since[i] = 1
	:: else
	fi;
	HOLDS(no_seal_after_a_switch_under_an_expelled_holders_key,
		!(expelled[i] || gone[i]) || generation <= frontier[i]);
	has_seq[i] = has_seq[i] || generation == seq;
	has_sealing[i] = has_sealing[i] || generation == sealing;
	held_seq[i] = generation;
	/* What is past is refused: key-seq-old. */
	if
	:: generation == seq ->
		REKEY(seq, i) = 0;
		REKEY(seq - 1, i) = 0
	:: generation == seq - 1 -> REKEY(seq - 1, i) = 0
	:: else
	fi
}

/* What answers a request that is given up is refused from here on (nonce-not-outstanding): forgotten. */
inline give_up(i) {
#ifndef ANY_NONCE
	GRANT(i, asked[i]) = 0;
#endif
	asked[i] = 0
}

inline ask(i) {
	give_up(i);
	made[i]++;
#ifndef ANY_NONCE
	GRANT(i, made[i]) = 0;
#endif
	asked[i] = made[i]
}

inline hear_grant(i, n) {
	HOLDS(keys_installed_only_for_outstanding_nonces, n == asked[i]);
	if
	:: GRANT(i, n) >= held_seq[i] ->
		link[i] = n;
		install(i, GRANT(i, n))
	:: else
	fi;
	give_up(i)
}

/* s is above held_seq[i]. */
inline hear_rekey(i, s) {
	if
	:: link[i] && REKEY(s, i) == link[i] ->
		install(i, s);
		give_up(i)
	:: else ->
		/* Left out, or the ends disagree about the link: with a request under way its grant decides. */
		if
		:: asked[i] == 0 -> link[i] = 0
		:: else
		fi
	fi
}

/* --- from here on every message arrives, in order, within the protocol's time */

inline calm() {
	for (turn : 1 .. 8) {
		for (i : 0 .. N - 1) {
			for (n : seq - 1 .. seq) {
				if
				:: n > held_seq[i] -> hear_rekey(i, n)
				:: else
				fi
			}
			if
			:: asked[i] && asked[i] > seen[i] -> hear(i, asked[i])
			:: else
			fi
		}
		if
		:: switching -> switch()
		:: else
		fi;
		if
		:: rotate -> rotation()
		:: else
		fi;
		for (i : 0 .. N - 1) {
			if
			:: asked[i] && GRANT(i, asked[i]) ->
				n = asked[i];
				hear_grant(i, n)
#ifndef NEVER_GIVE_A_REQUEST_UP
			/* RETRANSMIT is over: the same bytes again were of no use. */
			:: asked[i] && !GRANT(i, asked[i]) -> give_up(i)
#endif
			:: else
			fi
		}
		if
		:: switching -> switch()
		:: else
		fi;
		for (i : 0 .. N - 1) {
			/* A beacon names the generation in use; a round makes everybody ask. */
			if
			:: !asked[i] && (held_seq[i] < sealing || (round && link[i] <= renewed[i])) -> ask(i)
			:: else
			fi
		}
		if
		:: turn == 3 && round ->
			cut();
			switch()
		:: else
		fi
	}
	for (i : 0 .. N - 1) {
		HOLDS(keys_converge_under_fair_delivery, gone[i] || expelled[i] || held_seq[i] == sealing)
	}
}

/* One state for all ends: what led here was judged. */
inline forget() {
	for (i : 0 .. N - 1) {
		holder[i] = 0; asking[i] = 0; seen[i] = 0; newer[i] = 0; expelled[i] = 0; gone[i] = 0;
		renewed[i] = 0; asked[i] = 0; made[i] = 0; first[i] = 0; link[i] = 0; held_seq[i] = 0;
		has_sealing[i] = 0; has_seq[i] = 0; frontier[i] = 0; since[i] = 0;
		for (n : 0 .. WINDOW - 1) {
			grants[i].to[n] = 0
		}
	}
	for (n : 0 .. WINDOW - 1) {
		for (i : 0 .. N - 1) {
			rekeys[n].link[i] = 0
		}
	}
	seq = 0; sealing = 0; base = 0; used = 0; turns = 0; asks = 0; rotate = 0; switching = 0; round = 0;
	i = 0; k = 0; n = 0; turn = 0
}

active proctype publisher() {
	byte i, k, n, turn;
	do
	:: d_step { !over && switching -> switch(); judge() }
	:: d_step { !over && rotate && !switching -> rotation(); judge() }
	:: d_step { !over && !round && turns < TURNS ->
		turns++;
		round = 1;
		for (k : 0 .. N - 1) {
			renewed[k] = made[k]
		}
#ifdef A_ROUND_SEALS_ON
		/* The new signing key is handed to the media with the old base key. */
		from_zero();
#endif
		k = 0
	}
	:: d_step { !over && round && !switching -> cut(); judge() }
	:: d_step { !over && turns < TURNS ->
		/* The process restarts: a new session, whom nobody has asked yet. */
		turns++;
		for (k : 0 .. N - 1) {
			holder[k] = 0;
			asking[k] = 0;
			since[k] = 0;
			seen[k] = made[k]
		}
#ifndef KEYS_SURVIVE_A_RESTART
		seq++;
		for (k : 0 .. N - 1) {
			has_seq[k] = 0;
			REKEY(seq, k) = 0;
			REKEY(seq - 2, k) = 0
		}
#endif
		base = seq;
		rotate = 0;
		round = 0;
		switch();
		judge()
	}
	/* The calm may begin at any moment; nothing comes after it. */
	:: d_step { !over -> over = 1; calm(); forget() } -> break
	od
}

/* Receiver i, and what of it arrives at the publisher. */
active [N] proctype receiver() {
	byte i = _pid - 1, k, n;
	do
	:: d_step { !over && asks < ASKS && (i == 0 || made[i - 1]) -> asks++; ask(i) }
	:: d_step { !over && made[i] > seen[i] -> n = made[i]; hear(i, n); n = 0 }
	:: d_step { !over && made[i] > seen[i] + 1 -> n = seen[i] + 1; hear(i, n); n = 0 }
	:: d_step { !over && asked[i] && GRANT(i, asked[i]) -> n = asked[i]; hear_grant(i, n); n = 0 }
#ifdef ANY_NONCE
	:: d_step { !over && made[i] && GRANT(i, 1) -> hear_grant(i, 1) }
#endif
	:: d_step { !over && link[i] && held_seq[i] < seq -> n = seq; hear_rekey(i, n); n = 0 }
	:: d_step { !over && link[i] && held_seq[i] + 1 < seq -> n = seq - 1; hear_rekey(i, n); n = 0 }
	/* Left, and whoever it was keeps the keys. */
	:: d_step { !over && !gone[i] && !expelled[i] && made[i] && turns < TURNS -> turns++; gone[i] = 1; put_out(i); judge() }
	:: d_step { !over && !gone[i] && !expelled[i] && made[i] && turns < TURNS -> turns++; expelled[i] = 1; put_out(i); judge() }
	/* Silent for 25 s, or said by the SFU to have left: it may ask again. */
	:: d_step { !over && (holder[i] || asking[i]) && turns < TURNS -> turns++; remove(i) }
	/* It restarts. */
	:: d_step { !over && !gone[i] && !first[i] && made[i] && turns < TURNS ->
		turns++;
		first[i] = made[i] + 1;
		give_up(i); link[i] = 0; held_seq[i] = 0
	}
	:: over -> break
	od
}

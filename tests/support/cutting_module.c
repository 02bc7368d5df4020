/*
 * SoftHSM's PKCS#11 module, under which the power fails: before the first call that changes the token, and after
 * each, a byte is appended to the file CUT_STEPS; at the one that CUT_AT counts, the process is gone.
 *
 * CK_FUNCTION_LIST is a version and 68 pointers in the order of PKCS#11 v2.40, appendix C (pkcs11f.h).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FUNCTIONS 68
enum {
	GET_FUNCTION_LIST = 3,
	CREATE_OBJECT = 20,
	DESTROY_OBJECT = 22,
	SET_ATTRIBUTE_VALUE = 25,
	GENERATE_KEY_PAIR = 59
};

typedef unsigned long ulong;
struct list {
	unsigned char version[2];
	void *functions[FUNCTIONS];
};

static struct list *real, cutting;

static void boundary(int before)
{
	const char *path = getenv("CUT_STEPS");
	int steps;

	if (!path)
		return;
	steps = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
	/* What is before a call is after the one before it. */
	if (before && lseek(steps, 0, SEEK_END)) {
		close(steps);
		return;
	}
	if (write(steps, ".", 1) != 1 || lseek(steps, 0, SEEK_END) == atoi(getenv("CUT_AT")))
		kill(getpid(), SIGKILL);
	close(steps);
}

static ulong create_object(ulong session, void *template, ulong count, ulong *object)
{
	ulong (*function)(ulong, void *, ulong, ulong *) = real->functions[CREATE_OBJECT], done;
	boundary(1);
	done = function(session, template, count, object);
	boundary(0);
	return done;
}

static ulong destroy_object(ulong session, ulong object)
{
	ulong (*function)(ulong, ulong) = real->functions[DESTROY_OBJECT], done;
	boundary(1);
	done = function(session, object);
	boundary(0);
	return done;
}

static ulong set_attribute_value(ulong session, ulong object, void *template, ulong count)
{
	ulong (*function)(ulong, ulong, void *, ulong) = real->functions[SET_ATTRIBUTE_VALUE], done;
	boundary(1);
	done = function(session, object, template, count);
	boundary(0);
	return done;
}

static ulong generate_key_pair(ulong session, void *mechanism, void *public, ulong public_count, void *private,
			       ulong private_count, ulong *public_key, ulong *private_key)
{
	ulong (*function)(ulong, void *, void *, ulong, void *, ulong, ulong *, ulong *) =
		real->functions[GENERATE_KEY_PAIR], done;
	boundary(1);
	done = function(session, mechanism, public, public_count, private, private_count, public_key, private_key);
	boundary(0);
	return done;
}

ulong C_GetFunctionList(struct list **list)
{
	ulong (*real_list)(struct list **);
	void *module = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL);

	*(void **)&real_list = module ? dlsym(module, "C_GetFunctionList") : NULL;
	if (!real_list || real_list(&real))
		return 5; /* CKR_GENERAL_ERROR */
	memcpy(&cutting, real, sizeof(cutting));
	cutting.functions[GET_FUNCTION_LIST] = C_GetFunctionList;
	cutting.functions[CREATE_OBJECT] = create_object;
	cutting.functions[DESTROY_OBJECT] = destroy_object;
	cutting.functions[SET_ATTRIBUTE_VALUE] = set_attribute_value;
	cutting.functions[GENERATE_KEY_PAIR] = generate_key_pair;
	*list = &cutting;
	return 0;
}

/*
 * A PKCS#11 module as slow as a card: SoftHSM's, whose private-key operations take as long as SLOW_MODULE_MS says.
 *
 * CK_FUNCTION_LIST is a version and 68 pointers in the order of PKCS#11 v2.40, appendix C (pkcs11f.h).
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FUNCTIONS 68
enum { GET_FUNCTION_LIST = 3, SIGN = 43, DERIVE_KEY = 62 };

typedef unsigned long ulong;
struct list {
	unsigned char version[2];
	void *functions[FUNCTIONS];
};

static struct list *real, slow;

static void take_time(void)
{
	const char *milliseconds = getenv("SLOW_MODULE_MS");
	usleep(1000 * (milliseconds ? atoi(milliseconds) : 150));
}

static ulong sign(ulong session, void *data, ulong data_len, void *signature, ulong *signature_len)
{
	ulong (*function)(ulong, void *, ulong, void *, ulong *) = real->functions[SIGN];
	if (signature)
		take_time();
	return function(session, data, data_len, signature, signature_len);
}

static ulong derive_key(ulong session, void *mechanism, ulong base, void *template, ulong count, ulong *key)
{
	ulong (*function)(ulong, void *, ulong, void *, ulong, ulong *) = real->functions[DERIVE_KEY];
	take_time();
	return function(session, mechanism, base, template, count, key);
}

ulong C_GetFunctionList(struct list **list)
{
	ulong (*real_list)(struct list **);
	void *module = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL);

	*(void **)&real_list = module ? dlsym(module, "C_GetFunctionList") : NULL;
	if (!real_list || real_list(&real))
		return 5; /* CKR_GENERAL_ERROR */
	memcpy(&slow, real, sizeof(slow));
	slow.functions[GET_FUNCTION_LIST] = C_GetFunctionList;
	slow.functions[SIGN] = sign;
	slow.functions[DERIVE_KEY] = derive_key;
	*list = &slow;
	return 0;
}

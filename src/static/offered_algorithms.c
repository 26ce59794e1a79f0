/*
 * OpenSSL builds all of a provider's algorithms of a kind when the first is asked for, and leaves an error behind for each whose table is empty. So the
 * default provider does not offer those that left_out.awk emptied: its answers pass through here. See provider(7), openssl-core_dispatch.h(7).
 */
#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <stddef.h>
#include <stdlib.h>

/* The provider's own; scripts/build.sh gives it this name. */
OSSL_provider_init_fn ossl_whole_default_provider_init;
OSSL_provider_init_fn ossl_default_provider_init;

/* Operations are numbered from 1; 22 is the last so far. */
#define OPERATIONS 32
/* Functions a provider has for the core; nine so far. */
#define FUNCTIONS 32

static OSSL_FUNC_provider_query_operation_fn *whole_query;
static OSSL_ALGORITHM *offered[OPERATIONS];
static OSSL_DISPATCH functions[FUNCTIONS + 1];

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
    const OSSL_ALGORITHM *all = whole_query(provider, operation, no_cache);
    return operation >= 0 && operation < OPERATIONS && offered[operation] != NULL ? offered[operation] : all;
}

static int offer(void *provider, int operation)
{
    int no_cache = 0;
    const OSSL_ALGORITHM *all = whole_query(provider, operation, &no_cache);
    size_t count = 0;
    while (all != NULL && all[count].algorithm_names != NULL)
        count++;
    if (count == 0 || offered[operation] != NULL)
        return 1;

    OSSL_ALGORITHM *rest = calloc(count + 1, sizeof *rest);
    if (rest == NULL)
        return 0;
    for (size_t i = 0, kept = 0; i < count; i++)
        if (all[i].implementation[0].function_id != 0)
            rest[kept++] = all[i];
    offered[operation] = rest;
    return 1;
}

/* Once in the life of the process, under the core's lock; 0: failed, as its own. */
int ossl_default_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provider)
{
    if (!ossl_whole_default_provider_init(handle, in, out, provider))
        return 0;

    size_t count = 0;
    for (; (*out)[count].function_id != 0; count++) {
        if (count == FUNCTIONS)
            return 1; /* a core to come: all is offered, and errors it leaves are its own */
        functions[count] = (*out)[count];
        if (functions[count].function_id == OSSL_FUNC_PROVIDER_QUERY_OPERATION) {
            whole_query = OSSL_FUNC_provider_query_operation(&functions[count]);
            functions[count].function = (void (*)(void))query;
        }
    }
    functions[count].function_id = 0;

    for (int operation = 1; whole_query != NULL && operation < OPERATIONS; operation++)
        if (!offer(*provider, operation))
            return 0;
    *out = functions;
    return 1;
}

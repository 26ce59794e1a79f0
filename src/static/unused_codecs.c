/*
 * The HTTP client makes Brotli reachable, though automatic decompression is always off (digests are of stored
 * bytes). These definitions keep 0.86 MB of its tables out of the executable; creating a codec fails cleanly.
 */
#include <stddef.h>

#define ABSENT(name) \
    void *name(void) { return NULL; }

ABSENT(BrotliDecoderCreateInstance)
ABSENT(BrotliDecoderDecompress)
ABSENT(BrotliDecoderDecompressStream)
ABSENT(BrotliDecoderDestroyInstance)
ABSENT(BrotliDecoderIsFinished)
ABSENT(BrotliEncoderCompress)
ABSENT(BrotliEncoderCompressStream)
ABSENT(BrotliEncoderCreateInstance)
ABSENT(BrotliEncoderDestroyInstance)
ABSENT(BrotliEncoderHasMoreOutput)
ABSENT(BrotliEncoderMaxCompressedSize)
ABSENT(BrotliEncoderSetParameter)

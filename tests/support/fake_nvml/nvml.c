/* A libnvidia-ml.so.1 for the tests: the functions that the harness calls, answered from a flat JSON file.
 *
 * The file is named by FAKE_NVML and read anew at each call. Keys:
 *   "devices": how many;  "<i>.uuid": UUID of NVML's device i (so NVML's order need not be CUDA's)
 *   "<i>.used", "<i>.reserved", "<i>.total": bytes
 *   "<i>.processes": "pid:bytes;pid:bytes", where pid may be self and bytes may be na (the sentinel)
 *   "<i>.<function>": the value that the function answers (clock, temperature, milliwatts, bit mask, …)
 *   "error.<function>": the code that it fails with instead;  "die_after": calls until all fail with GPU_IS_LOST
 * Built with -DNO_V3 or -DNO_MEMORY_V2 it lacks the symbols that old drivers lack.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };

typedef int nvmlReturn_t;
typedef size_t Device; /* index + 1: a handle is never null */
typedef unsigned long long u64;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;

static char text[65536];
static long calls;

/* The value of a key as text; 0 if there is none. */
static int look_up(const char *key, char *value, size_t size) {
    char quoted[256];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(text, quoted);
    if (!at) return 0;
    at += strlen(quoted);
    while (*at == ' ' || *at == '"') at++;
    size_t length = strcspn(at, "\",}\n");
    if (length >= size) length = size - 1;
    memcpy(value, at, length);
    value[length] = 0;
    return 1;
}

static u64 number(const char *key, u64 otherwise) {
    char value[64];
    return look_up(key, value, sizeof value) ? strtoull(value, 0, 10) : otherwise;
}

static const char *of(Device device, const char *name) {
    static char key[256];
    snprintf(key, sizeof key, "%zu.%s", device - 1, name);
    return key;
}

/* Reads the script; returns the code that this call is to fail with. */
static nvmlReturn_t enter(const char *function) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : 0;
    if (!file) abort();
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    if (++calls > (long)number("die_after", 1u << 30)) return GPU_IS_LOST;
    char key[256];
    snprintf(key, sizeof key, "error.%s", function);
    return (nvmlReturn_t)number(key, SUCCESS);
}

#define ENTER() do { nvmlReturn_t failure = enter(__func__); if (failure) return failure; } while (0)

nvmlReturn_t nvmlInitWithFlags(unsigned flags) { (void)flags; ENTER(); return SUCCESS; }
nvmlReturn_t nvmlShutdown(void) { ENTER(); return SUCCESS; }

const char *nvmlErrorString(nvmlReturn_t code) {
    static char words[32];
    snprintf(words, sizeof words, "fake error %d", code);
    return words;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned size) {
    ENTER();
    return look_up("driver", version, size) ? SUCCESS : NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) { ENTER(); *count = number("devices", 0); return SUCCESS; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    ENTER();
    if (index >= number("devices", 0)) return INVALID_ARGUMENT;
    *device = index + 1;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    ENTER();
    char value[128];
    for (size_t i = 1; i <= number("devices", 0); i++)
        if (look_up(of(i, "uuid"), value, sizeof value) && !strcmp(value, uuid)) return *device = i, SUCCESS;
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetUUID(Device device, char *uuid, unsigned size) {
    ENTER();
    return look_up(of(device, "uuid"), uuid, size) ? SUCCESS : NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(Device device, Memory *memory) {
    ENTER();
    memory->total = number(of(device, "total"), 0);
    memory->used = number(of(device, "used"), 0) + number(of(device, "reserved"), 0); /* version 1 adds them up */
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

#ifndef NO_MEMORY_V2
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(Device device, MemoryV2 *memory) {
    ENTER();
    if (memory->version != (sizeof(MemoryV2) | 2u << 24)) return INVALID_ARGUMENT;
    memory->total = number(of(device, "total"), 0);
    memory->reserved = number(of(device, "reserved"), 0);
    memory->used = number(of(device, "used"), 0);
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}
#endif

static nvmlReturn_t list_processes(Device device, unsigned *count, Process *processes) {
    char listed[4096] = "";
    unsigned room = *count;
    *count = 0;
    look_up(of(device, "processes"), listed, sizeof listed);
    for (char *item = strtok(listed, ";"); item; item = strtok(0, ";")) {
        char *bytes = strchr(item, ':') + 1;
        if ((*count)++ >= room) continue;
        Process *process = processes + *count - 1;
        process->pid = strncmp(item, "self", 4) ? (unsigned)atol(item) : (unsigned)getpid();
        process->used = strcmp(bytes, "na") ? strtoull(bytes, 0, 10) : ~0ull;
    }
    return *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(Device device, unsigned *count, Process *processes) {
    ENTER();
    return list_processes(device, count, processes);
}

#ifndef NO_V3
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    ENTER();
    return list_processes(device, count, processes);
}
#endif

/* Functions whose answer is one number, unknown ones not supported. */
#define SCALAR(function, type, ...)                                  \
    nvmlReturn_t function(Device device, ##__VA_ARGS__, type *out) { \
        ENTER();                                                     \
        char value[64];                                              \
        if (!look_up(of(device, #function), value, sizeof value)) return NOT_SUPPORTED; \
        *out = (type)strtoull(value, 0, 10);                         \
        return SUCCESS;                                              \
    }

SCALAR(nvmlDeviceGetClockInfo, unsigned, int type)
SCALAR(nvmlDeviceGetMaxClockInfo, unsigned, int type)
SCALAR(nvmlDeviceGetTemperature, unsigned, int sensor)
SCALAR(nvmlDeviceGetPowerUsage, unsigned)
SCALAR(nvmlDeviceGetEnforcedPowerLimit, unsigned)
SCALAR(nvmlDeviceGetTotalEccErrors, u64, int error, int counter)
SCALAR(nvmlDeviceGetPersistenceMode, unsigned)
SCALAR(nvmlDeviceGetCurrentClocksThrottleReasons, u64)
#ifndef NO_EVENT_REASONS
SCALAR(nvmlDeviceGetCurrentClocksEventReasons, u64)
#endif

/* Functions that answer with the current and the pending state. */
#define STATE(function)                                                              \
    nvmlReturn_t function(Device device, unsigned *current, unsigned *pending) {     \
        ENTER();                                                                     \
        char value[64];                                                              \
        if (!look_up(of(device, #function), value, sizeof value)) return NOT_SUPPORTED; \
        *current = *pending = (unsigned)strtoul(value, 0, 10);                       \
        return SUCCESS;                                                              \
    }

STATE(nvmlDeviceGetEccMode)
STATE(nvmlDeviceGetMigMode)

/* A CUDA driver on host memory, for tests without a GPU.

   Work on a stream is put off until somebody waits for the stream, so that code that reads a
   result, or reuses a buffer, without waiting gets it wrong every time. Live objects are counted
   (fake_live), failures can be ordered (fake_fail), and there is no device until fake_devices.

   With fake_async(1), made before its streams, each stream works on a thread of its own at once,
   as a GPU does, and fake_kernel keeps the one engine busy for a time (overhead.py). */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int CUresult;
typedef void (*host_fn)(void *);
enum { OUT_OF_MEMORY = 2, NOT_PERMITTED = 800, NOT_SUPPORTED = 801 };

typedef struct op {
    struct op *next;
    void *to;
    const void *from;
    size_t size;
    host_fn fn;
    void *data;
    int busy_us;
} op;

typedef struct list { op *first, **last; } list;
typedef struct stream {
    list waiting;
    list *capture;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int threaded, ending;
} stream;

static int devices, unified, graphs = 1, live, contexts, current, launches, async;
static pthread_mutex_t engine = PTHREAD_MUTEX_INITIALIZER;
static long long busy_us;
static char failing[64];
static int failing_after;

void fake_devices(int count, int is_unified) { devices = count; unified = is_unified; }
void fake_graphs(int yes) { graphs = yes; }
void fake_fail(const char *function, int after) {
    strncpy(failing, function, sizeof failing - 1);
    failing_after = after;
}
int fake_live(void) { return live; }
int fake_contexts(void) { return contexts; }
int fake_current(void) { return current; }
int fake_launches(void) { return launches; }
void fake_async(int yes) { async = yes; }
long long fake_busy_us(void) { return busy_us; }

#define MAY_FAIL(code) \
    if (!strcmp(failing, __func__) && failing_after-- <= 0) return code

CUresult cuInit(unsigned flags) { MAY_FAIL(999); return 0; }
CUresult cuDriverGetVersion(int *version) { *version = 12060; return 0; }
CUresult cuDeviceGetCount(int *count) { *count = devices; return 0; }
CUresult cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < devices ? 0 : 101; }
CUresult cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Fake GPU", length); return 0; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)8 << 30; return 0; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18 ? unified : 0;
    return 0;
}
CUresult cuDevicePrimaryCtxRetain(void **context, int device) { MAY_FAIL(OUT_OF_MEMORY); contexts++; *context = &contexts; return 0; }
CUresult cuDevicePrimaryCtxRelease_v2(int device) { contexts--; return 0; }
CUresult cuCtxPushCurrent_v2(void *context) { current++; return 0; }
CUresult cuCtxPopCurrent_v2(void **context) { current--; if (context) *context = &contexts; return 0; }
CUresult cuCtxGetCurrent(void **context) { *context = current > 0 ? (void *)&contexts : NULL; return 0; }
CUresult cuCtxGetDevice(int *device) { *device = 0; return current > 0 ? 0 : 201; }
CUresult cuCtxGetApiVersion(void *context, unsigned *version) { *version = 12060; return 0; }
CUresult cuCtxSynchronize(void) { return 0; }
CUresult cuMemGetInfo_v2(size_t *free_, size_t *total) { *free_ = (size_t)1 << 30; *total = (size_t)8 << 30; return 0; }

CUresult cuMemAlloc_v2(void **pointer, size_t size) {
    MAY_FAIL(OUT_OF_MEMORY);
    *pointer = malloc(size);
    memset(*pointer, 0xff, size);
    live++;
    return 0;
}
CUresult cuMemFree_v2(void *pointer) { live--; free(pointer); return 0; }
CUresult cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
    MAY_FAIL(OUT_OF_MEMORY);
    if (posix_memalign(pointer, 4096, size)) return OUT_OF_MEMORY;
    live++;
    return 0;
}
CUresult cuMemFreeHost(void *pointer) { live--; free(pointer); return 0; }
CUresult cuMemHostGetDevicePointer_v2(void **device, void *host, unsigned flags) { *device = host; return 0; }

static void perform(const op *o) {
    if (o->fn) {
        o->fn(o->data);
    } else if (o->busy_us) {
        struct timespec time = {o->busy_us / 1000000, o->busy_us % 1000000 * 1000};
        struct timespec before, after;
        pthread_mutex_lock(&engine); /* one kernel at a time, whatever stream it is on */
        clock_gettime(CLOCK_MONOTONIC, &before);
        nanosleep(&time, NULL);
        clock_gettime(CLOCK_MONOTONIC, &after);
        busy_us += (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
        pthread_mutex_unlock(&engine);
    } else {
        memcpy(o->to, o->from, o->size);
    }
}

static void *work(void *handle) {
    stream *s = handle;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        op *o = s->waiting.first;
        if (!o && s->ending) break;
        if (!o) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        perform(o);
        pthread_mutex_lock(&s->lock);
        s->waiting.first = o->next;
        if (!o->next) s->waiting.last = &s->waiting.first;
        free(o);
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

CUresult cuStreamCreate(void **handle, unsigned flags) {
    MAY_FAIL(OUT_OF_MEMORY);
    stream *s = calloc(1, sizeof *s);
    s->waiting.last = &s->waiting.first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->threaded = async && !pthread_create(&s->thread, NULL, work, s);
    *handle = s;
    live++;
    return 0;
}

static void put(stream *s, op what) {
    pthread_mutex_lock(&s->lock);
    list *l = s->capture ? s->capture : &s->waiting;
    *l->last = malloc(sizeof(op));
    **l->last = what;
    (*l->last)->next = NULL;
    l->last = &(*l->last)->next;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}
static void drop(list *l) {
    for (op *o = l->first, *next; o; o = next) { next = o->next; free(o); }
    l->first = NULL;
    l->last = &l->first;
}

CUresult cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, stream *s) {
    MAY_FAIL(719);
    put(s, (op){.to = to, .from = from, .size = size});
    return 0;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, stream *s) {
    put(s, (op){.to = to, .from = from, .size = size});
    return 0;
}
CUresult cuLaunchHostFunc(stream *s, host_fn fn, void *data) {
    put(s, (op){.fn = fn, .data = data});
    return 0;
}
void fake_kernel(stream *s, int microseconds) { put(s, (op){.busy_us = microseconds}); }
CUresult cuStreamSynchronize(stream *s) {
    MAY_FAIL(700);
    if (s->capture) return 900;
    if (s->threaded) {
        pthread_mutex_lock(&s->lock);
        while (s->waiting.first) pthread_cond_wait(&s->changed, &s->lock);
        pthread_mutex_unlock(&s->lock);
        return 0;
    }
    for (op *o = s->waiting.first; o; o = o->next) perform(o);
    drop(&s->waiting);
    return 0;
}
CUresult cuStreamDestroy_v2(stream *s) {
    if (s->threaded) {
        pthread_mutex_lock(&s->lock);
        s->ending = 1;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    drop(&s->waiting);
    free(s);
    live--;
    return 0;
}

CUresult cuStreamBeginCapture_v2(stream *s, int mode) {
    if (!graphs) return NOT_SUPPORTED;
    s->capture = calloc(1, sizeof(list));
    s->capture->last = &s->capture->first;
    return 0;
}
CUresult cuStreamEndCapture(stream *s, list **graph) {
    list *captured = s->capture;
    s->capture = NULL; /* whatever comes of it, as in the real driver */
    if (!strcmp(failing, __func__)) {
        drop(captured);
        free(captured);
        return 901;
    }
    *graph = captured;
    live++;
    return 0;
}
CUresult cuGraphInstantiateWithFlags(list **executable, list *graph, unsigned long long flags) {
    MAY_FAIL(NOT_SUPPORTED);
    stream copy = {.capture = calloc(1, sizeof(list)), .lock = PTHREAD_MUTEX_INITIALIZER,
                   .changed = PTHREAD_COND_INITIALIZER};
    copy.capture->last = &copy.capture->first;
    for (op *o = graph->first; o; o = o->next) put(&copy, *o);
    *executable = copy.capture;
    live++;
    return 0;
}
CUresult cuGraphLaunch(list *executable, stream *s) {
    MAY_FAIL(NOT_PERMITTED);
    launches++;
    for (op *o = executable->first; o; o = o->next) put(s, *o);
    return 0;
}
CUresult cuGraphDestroy(list *graph) { drop(graph); free(graph); live--; return 0; }
CUresult cuGraphExecDestroy(list *executable) { drop(executable); free(executable); live--; return 0; }
CUresult cuGetErrorString(CUresult error, const char **words) { *words = "ordered by a test"; return 0; }

/* What pycuda links against and the project never calls. */
#define STUB(name) CUresult name(void) { return NOT_SUPPORTED; }
STUB(cuArray3DCreate_v2) STUB(cuArray3DGetDescriptor_v2) STUB(cuArrayCreate_v2)
STUB(cuArrayDestroy) STUB(cuArrayGetDescriptor_v2) STUB(cuCtxAttach) STUB(cuCtxCreate_v4)
STUB(cuCtxDetach) STUB(cuCtxDisablePeerAccess) STUB(cuCtxEnablePeerAccess)
STUB(cuCtxGetCacheConfig) STUB(cuCtxGetLimit) STUB(cuCtxGetSharedMemConfig)
STUB(cuCtxSetCacheConfig) STUB(cuCtxSetLimit) STUB(cuCtxSetSharedMemConfig)
STUB(cuDeviceCanAccessPeer) STUB(cuDeviceComputeCapability) STUB(cuDeviceGetByPCIBusId)
STUB(cuDeviceGetPCIBusId) STUB(cuEventCreate) STUB(cuEventDestroy_v2) STUB(cuEventElapsedTime_v2)
STUB(cuEventQuery) STUB(cuEventRecord) STUB(cuEventSynchronize) STUB(cuFuncGetAttribute)
STUB(cuFuncSetAttribute) STUB(cuFuncSetBlockShape) STUB(cuFuncSetCacheConfig)
STUB(cuFuncSetSharedSize) STUB(cuIpcCloseMemHandle) STUB(cuIpcGetEventHandle)
STUB(cuIpcGetMemHandle) STUB(cuIpcOpenEventHandle) STUB(cuIpcOpenMemHandle_v2) STUB(cuLaunch)
STUB(cuLaunchGrid) STUB(cuLaunchGridAsync) STUB(cuLaunchKernel) STUB(cuLinkAddData_v2)
STUB(cuLinkAddFile_v2) STUB(cuLinkComplete) STUB(cuLinkCreate_v2) STUB(cuLinkDestroy)
STUB(cuMemAllocManaged) STUB(cuMemAllocPitch_v2) STUB(cuMemGetAddressRange_v2)
STUB(cuMemHostGetFlags) STUB(cuMemHostRegister_v2) STUB(cuMemHostUnregister)
STUB(cuMemcpy2DAsync_v2) STUB(cuMemcpy2DUnaligned_v2) STUB(cuMemcpy2D_v2) STUB(cuMemcpy3DAsync_v2)
STUB(cuMemcpy3DPeer) STUB(cuMemcpy3DPeerAsync) STUB(cuMemcpy3D_v2) STUB(cuMemcpyAtoA_v2)
STUB(cuMemcpyAtoD_v2) STUB(cuMemcpyAtoH_v2) STUB(cuMemcpyDtoA_v2) STUB(cuMemcpyDtoDAsync_v2)
STUB(cuMemcpyDtoD_v2) STUB(cuMemcpyDtoH_v2) STUB(cuMemcpyHtoA_v2) STUB(cuMemcpyHtoD_v2)
STUB(cuMemcpyPeer) STUB(cuMemcpyPeerAsync) STUB(cuMemsetD16Async) STUB(cuMemsetD16_v2)
STUB(cuMemsetD2D16Async) STUB(cuMemsetD2D16_v2) STUB(cuMemsetD2D32Async) STUB(cuMemsetD2D32_v2)
STUB(cuMemsetD2D8Async) STUB(cuMemsetD2D8_v2) STUB(cuMemsetD32Async) STUB(cuMemsetD32_v2)
STUB(cuMemsetD8Async) STUB(cuMemsetD8_v2) STUB(cuModuleGetFunction) STUB(cuModuleGetGlobal_v2)
STUB(cuModuleGetSurfRef) STUB(cuModuleGetTexRef) STUB(cuModuleLoad) STUB(cuModuleLoadData)
STUB(cuModuleLoadDataEx) STUB(cuModuleUnload) STUB(cuParamSetSize) STUB(cuParamSetTexRef)
STUB(cuParamSetf) STUB(cuParamSeti) STUB(cuParamSetv) STUB(cuProfilerInitialize)
STUB(cuProfilerStart) STUB(cuProfilerStop) STUB(cuStreamAttachMemAsync) STUB(cuStreamQuery)
STUB(cuStreamWaitEvent) STUB(cuSurfRefGetArray) STUB(cuSurfRefSetArray) STUB(cuTexRefCreate)
STUB(cuTexRefDestroy) STUB(cuTexRefGetAddressMode) STUB(cuTexRefGetAddress_v2)
STUB(cuTexRefGetArray) STUB(cuTexRefGetFilterMode) STUB(cuTexRefGetFlags) STUB(cuTexRefGetFormat)
STUB(cuTexRefSetAddress2D_v3) STUB(cuTexRefSetAddressMode) STUB(cuTexRefSetAddress_v2)
STUB(cuTexRefSetArray) STUB(cuTexRefSetFilterMode) STUB(cuTexRefSetFlags) STUB(cuTexRefSetFormat)

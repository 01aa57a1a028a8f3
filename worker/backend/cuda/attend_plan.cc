#include "worker/backend/cuda/attend.h"

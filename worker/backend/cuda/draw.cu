#include "worker/backend/cuda/draw.h"

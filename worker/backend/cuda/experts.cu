#include "worker/backend/cuda/experts.h"

insert into aggtest values (56, 7.8), (100, 99.097), (0, 0.09561), (42, 324.78);

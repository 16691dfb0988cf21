insert into student (name, age, location, gpa) values
    ('fred', 28, '(3.1,-1.5)', 3.7),
    ('larry', 60, '(21.8,4.9)', 3.1);
